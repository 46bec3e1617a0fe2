"""Compare what `mobileclip classify` says of the goldens' photos with what the Python packages say of the same files.

    cargo build --release -p mobileclip-cli
    python compat/classify.py CHECKPOINTS [--only NAME…] [--threads N] [--report FILE]

Every checkpoint that make_checkpoints.py wrote is run as it is; the first of each model also with three templates, and as
a deploy file that `mobileclip convert` made of it. Probabilities must agree to 1e-4, and labels stand in the same order where the reference has them more than
2e-4 apart. Exit code 1 if a checkpoint fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from reference import BINARY, REFERENCES, image_features, photos, text_features

LABELS = ["an astronaut", "a cat", "a cup of coffee", "a rocket", "a flower", "a man with a camera", "a temple in China",
          "a retina", "a galaxy", "a diagram", "nothing"]
TEMPLATES = {"one template": ["a photo of {}"], "three templates": ["a photo of {}", "a blurry picture of {}.", "{}"]}
TOLERANCE = 1e-4
MARGIN = 2e-4


@torch.inference_mode()
def expected(model, images, templates):
    """[photos, labels] probabilities; embeddings of several templates are averaged and normalised again."""
    normalize = torch.nn.functional.normalize
    texts = [template.replace("{}", label) for label in LABELS for template in templates]
    labels = normalize(text_features(model, texts), dim=-1).unflatten(0, (len(LABELS), -1)).mean(1)
    logits = model.logit_scale.exp() * normalize(images, dim=-1) @ normalize(labels, dim=-1).T
    return logits.double().softmax(-1)


def classified(checkpoint, paths, templates, threads):
    """[photos, labels] as the binary prints them, after checking that every line is in order."""
    command = [BINARY, "classify", "--model", checkpoint, "--labels", ",".join(LABELS), "--json", "--no-exif", "--no-cache", "--quiet"]
    command += ["--threads", threads, *(word for template in templates for word in ("--template", template)), *paths]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    rows = []
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        if answer["path"] != str(path) or "error" in answer:
            raise SystemExit(f"{checkpoint}: {line}")
        shown = [score["probability"] for score in answer["scores"]]
        if shown != sorted(shown, reverse=True):
            raise SystemExit(f"{checkpoint}: {path}: not best first: {line}")
        by_label = {score["label"]: score["probability"] for score in answer["scores"]}
        rows.append([by_label[label] for label in LABELS])
    return torch.tensor(rows, dtype=torch.float64)


def exchanged(ours, theirs):
    """How many pairs of labels stand the other way round although the reference has them apart."""
    apart = theirs[:, :, None] - theirs[:, None, :] > MARGIN
    return int((apart & (ours[:, :, None] <= ours[:, None, :])).sum())


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def checkpoints(reference, folder):
    if not reference.first_package:
        yield folder / reference.name
    yield folder / f"{reference.file}.pt"
    if reference.has_branches:
        yield folder / "fused" / f"{reference.file}.pt"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path, help="append the results to this file as JSON lines")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths, failed = photos(), 0
    for reference in REFERENCES:
        if arguments.only and reference.name not in arguments.only:
            continue
        known = None
        for checkpoint in checkpoints(reference, arguments.checkpoints):
            model, transform = reference.load(checkpoint)
            # The hub's layout and the bare file hold the same tensors; then the reference need not run again.
            is_first = known is None
            if is_first or not equal(known, model.state_dict()):
                known = model.state_dict()
                images = image_features(model, transform, paths)
                wanted = {name: expected(model, images, templates) for name, templates in TEMPLATES.items()}
            with tempfile.TemporaryDirectory(dir=arguments.checkpoints) as scratch:
                runs = [(checkpoint, "one template")]
                if is_first:
                    deploy = Path(scratch) / "deploy.safetensors"
                    subprocess.run([BINARY, "convert", checkpoint, deploy, "--quiet"], check=True)
                    runs += [(checkpoint, "three templates"), (deploy, "one template")]
                for path, name in runs:
                    ours = classified(path, paths, TEMPLATES[name], arguments.threads)
                    difference = (ours - wanted[name]).abs()
                    worst = paths[int(difference.max(1).values.argmax())].name
                    row = {
                        "model": reference.name,
                        "checkpoint": str(checkpoint.relative_to(arguments.checkpoints)) if path == checkpoint else "its deploy file",
                        "labels": name, "photos": len(paths), "largest_difference": float(difference.max()), "at": worst,
                        "exchanged": exchanged(ours, wanted[name]),
                    }
                    good = row["largest_difference"] <= TOLERANCE and row["exchanged"] == 0
                    failed += not good
                    print(f"{'ok  ' if good else 'FAIL'} {row['model']:15} {row['checkpoint']:26} {name:15} "
                          f"{row['largest_difference']:.1e} at {worst}, {row['exchanged']} exchanged", flush=True)
                    if arguments.report:
                        with arguments.report.open("a") as report:
                            report.write(json.dumps(row) + "\n")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
