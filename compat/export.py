"""Run what `mobileclip export --onnx` writes in ONNX Runtime, and compare the features with those of `mobileclip embed`.

    cargo build --release -p mobileclip-cli
    cargo build --release -p mobileclip-testing --example formula_checkpoint
    python compat/export.py [--only NAME…] [--photos DIR] [--report FILE]

Every variant is filled by the goldens' formula, in a temporary folder that needs 5 GB for the largest. ONNX's own checker must
pass. Raw features of photos that open_clip's transform prepared, and of texts, must be equal to 1e-4 (norm of the difference
over norm), one at a time and three at a time; with preprocessing in the model, pictures as decoded must have a cosine of
0.999 to `mobileclip embed`'s. Exit code 1 if a variant fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from reference import BINARY, ROOT, relative

VARIANTS = [
    "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-B", "MobileCLIP2-S3", "MobileCLIP2-S4", "MobileCLIP2-L-14",
    "MobileCLIP-S0", "MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP-B", "MobileCLIP-S3", "MobileCLIP-S4", "MobileCLIP-L-14",
    "mobileclip_b", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14", "ViT-H-14-quickgelu",
]
TEXTS = ["a photo of a cat", "", "two astronauts playing chess on the surface of the moon, " * 6, "naïve café, 日本語", "dog"]
TOLERANCE = 1e-4
COSINE = 0.999
EMBED = ["--raw", "--no-exif", "--quiet"]


def mobileclip(*words):
    subprocess.run([str(word) for word in (BINARY, *words)], check=True)


def session(path):
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def features(run, rows):
    """One at a time, three at a time, and whether both are the same to the tolerance."""
    name = run.get_inputs()[0].name
    single = np.concatenate([run.run(None, {name: row[None]})[0] for row in rows])
    triples = [np.stack((rows * 3)[first : first + 3]) for first in range(0, len(rows), 3)]
    batched = np.concatenate([run.run(None, {name: triple})[0] for triple in triples])[: len(rows)]
    return torch.from_numpy(single), torch.from_numpy(batched)


def embedded(folder, checkpoint, variant, words):
    out = folder / "rows.npy"
    mobileclip("embed", *words, "--out", out, "--model", checkpoint, "--variant", variant, *EMBED)
    rows = torch.from_numpy(np.load(out))
    out.unlink()
    return rows


def check(variant, folder, paths):
    checkpoint = folder / f"{variant}.safetensors"
    subprocess.run([ROOT / "target/release/examples/formula_checkpoint", variant, checkpoint], check=True)
    export = ["export", checkpoint, "--variant", variant, "--onnx", "--quiet", "--out"]
    mobileclip(*export, folder)
    ours = embedded(folder, checkpoint, variant, paths)
    our_texts = embedded(folder, checkpoint, variant, ["--text", *TEXTS])

    image = session(folder / "image.onnx")
    facts = image.get_modelmeta().custom_metadata_map
    transform = image_transform_v2(PreprocessCfg(**json.loads(facts["preprocess_cfg"])), is_train=False)
    photos = [Image.open(path).convert("RGB") for path in paths]
    single, batched = features(image, [transform(photo).numpy() for photo in photos])
    row = {"variant": variant, "image": relative(single, ours), "image, 3": relative(batched, ours)}
    del image

    mobileclip(*export, folder / "image.onnx", "--tower", "image", "--with-preprocess", "--force")
    pictures = session(folder / "image.onnx")
    bytes_in = [np.asarray(photo)[None] for photo in photos]
    inside = torch.from_numpy(np.concatenate([pictures.run(None, {"image": picture})[0] for picture in bytes_in]))
    row["pictures, least cosine"] = float(torch.cosine_similarity(inside.double(), ours.double()).min())
    del pictures

    text = session(folder / "text.onnx")
    ids = open_clip.get_tokenizer("ViT-B-16")(TEXTS).numpy()
    single, batched = features(text, list(ids))
    row |= {"text": relative(single, our_texts), "text, 3": relative(batched, our_texts)}
    errors = [row[key] for key in ("image", "image, 3", "text", "text, 3")]
    return row, max(errors) <= TOLERANCE and row["pictures, least cosine"] >= COSINE


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", metavar="NAME", default=VARIANTS)
    parser.add_argument("--photos", type=Path, default=ROOT / "golden/images/photos", help="a folder of photos")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder goes")
    parser.add_argument("--report", type=Path, help="append the results to this file as JSON lines")
    arguments = parser.parse_args()
    # Sixteen bits of gray are read otherwise on purpose, see README.md.
    paths = sorted(p for p in arguments.photos.iterdir() if p.suffix in (".jpg", ".png") and "gray16" not in p.name)
    failed = 0
    for variant in arguments.only:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            row, good = check(variant, Path(folder), paths)
        failed += not good
        print("ok  " if good else "FAIL", " ".join(f"{v:.2e}" if k != "pictures, least cosine" and k != "variant"
              else f"{v:.6f}" if k != "variant" else f"{v:20}" for k, v in row.items()), flush=True)
        if arguments.report:
            with arguments.report.open("a") as report:
                report.write(json.dumps(row) + "\n")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
