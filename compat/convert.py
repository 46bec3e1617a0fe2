"""Let open_clip load what `mobileclip convert` wrote.

    cargo build --release -p mobileclip-cli
    python compat/convert.py CHECKPOINTS [--only NAME…]

Every checkpoint of make_checkpoints.py that open_clip can represent is converted to a directory; open_clip's features of
three photos and three texts must equal those of the checkpoint in its own package to 1e-5 (f16 and bf16: of the checkpoint
with weights rounded so), and its preprocessing must be the checkpoint's. What it cannot represent must be refused with
the reason, and leave nothing behind. Exit code 1 if one fails.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import open_clip
import torch
from reference import BINARY, REFERENCES, ROOT, image_features, relative, text_features

TEXTS = ["a photo of a cat", "a cup of coffee on a wooden table, seen from above", ""]
PHOTOS = sorted((ROOT / "golden/images_small").glob("*.png"))
TOLERANCE = 1e-5
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# What open_clip has no model for, and a word that the refusal must contain.
REFUSED = {
    "mobileclip_s0.pt": "RepMixer",
    "mobileclip_b.pt": "padded",
}
FUSED = "fused"


def convert(*words):
    return subprocess.run([str(w) for w in (BINARY, "convert", *words, "--quiet")], capture_output=True, text=True)


def rounded(model, dtype):
    """The model with its floating-point weights as a file of `dtype` holds them."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))
    return model


def steps(transform):
    """What the preprocessing does: mean and std as the f32 that they become, functions by their name."""
    said = []
    for step in transform.transforms:
        if hasattr(step, "mean"):
            said.append(("normalize", torch.tensor(step.mean).tolist(), torch.tensor(step.std).tolist()))
        else:
            said.append(getattr(step, "__name__", None) or repr(step))
    return said


def accepted(reference, checkpoint, scratch, name, dtype):
    """Problems of one conversion."""
    out = scratch / f"{checkpoint.name}-{name}"
    done = convert(checkpoint, out, "--dtype", name)
    if done.returncode != 0:
        return [f"refused: {done.stderr.strip()}"]
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{out}")
    model.eval()
    original, own_transform = reference.load(checkpoint)
    rounded(original, dtype)
    errors = {
        "image": relative(image_features(model, transform, PHOTOS), image_features(original, own_transform, PHOTOS)),
        "text": relative(text_features(model, TEXTS), text_features(original, TEXTS)),
    }
    print(f"  {name:5} {', '.join(f'{tower} {error:.1e}' for tower, error in errors.items())}", flush=True)
    problems = [f"{name}: {tower} features differ by {e:.1e}" for tower, e in errors.items() if not e <= TOLERANCE]
    if not reference.first_package and steps(transform) != steps(own_transform):
        problems.append(f"{name}: preprocessing {steps(transform)}, the checkpoint has {steps(own_transform)}")
    return problems


def refused(checkpoint, out, reason):
    """Problems of one refusal."""
    done = convert(checkpoint, out)
    problems = []
    if done.returncode == 0:
        problems.append("written, though open_clip cannot represent it")
    if reason not in done.stderr:
        problems.append(f"refused without the reason ({reason}): {done.stderr.strip()}")
    if out.exists():
        problems.append("something was left behind")
    print(f"  refused: {done.stderr.strip()}", flush=True)
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0

    def report(problems):
        nonlocal failed
        failed += bool(problems)
        for problem in problems:
            print(f"  FAIL {problem}", flush=True)

    for reference in REFERENCES:
        if arguments.only and reference.name not in arguments.only:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.checkpoints) as folder:
            scratch = Path(folder)
            bare = arguments.checkpoints / f"{reference.file}.pt"
            print(bare.name, flush=True)
            if bare.name in REFUSED:
                report(refused(bare, scratch / "refused", REFUSED[bare.name]))
            else:
                report(accepted(reference, bare, scratch, "f32", torch.float32))
            hub = arguments.checkpoints / reference.name
            if not reference.first_package:
                print(f"{hub.name}/", flush=True)
                for name, dtype in DTYPES.items():
                    report(accepted(reference, hub, scratch, name, dtype))
            if reference.has_branches:
                print(f"fused/{bare.name}", flush=True)
                reason = REFUSED.get(bare.name, FUSED)
                report(refused(arguments.checkpoints / "fused" / bare.name, scratch / "refused", reason))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
