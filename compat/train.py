"""open_clip loads what `mobileclip train` wrote, and gives the features that `mobileclip embed` gives.

Trains MobileCLIP2-S0 from random weights for two steps of two samples of a golden shard, then compares both programs' features of
golden photos and of some texts: norm of the difference over the norm, at most 1e-5.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["a photo of a cat", "two dogs on a beach", "nothing at all"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    args = parser.parse_args()
    binary = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
    photos = sorted((ROOT / "golden/images_small").glob("*.png"))[:4]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        shard = ROOT / "golden/shards/npz-list/00000000.tar"
        command = [
            binary, "train", "--model-variant", "MobileCLIP2-S0", "--data-shards", str(shard), "--run-out", str(out),
            "--run-steps", str(args.steps), "--run-batch", "2", "--optimiser-lr", "1e-4", "--optimiser-clip", "1",
        ]
        subprocess.run(command, check=True)
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{out / 'open_clip'}")
        model.eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{out / 'open_clip'}")
        with torch.no_grad():
            pictures = torch.stack([preprocess(Image.open(photo).convert("RGB")) for photo in photos])
            theirs = {"image": model.encode_image(pictures).numpy(), "text": model.encode_text(tokenizer(TEXTS)).numpy()}
        worst = 0.0
        for kind, inputs in [("image", [*map(str, photos), "--no-exif"]), ("text", ["--text", *TEXTS])]:
            table = Path(place) / f"{kind}.npy"
            embed = [binary, "embed", *inputs, "--raw", "--model", str(out / "open_clip"), "--out", str(table)]
            subprocess.run(embed, check=True)
            ours = np.load(table)
            distance = np.linalg.norm(ours - theirs[kind], axis=1) / np.linalg.norm(theirs[kind], axis=1)
            print(f"{kind}: {distance.max():.1e}")
            worst = max(worst, float(distance.max()))
    if worst > 1e-5:
        print(f"FAIL: {worst:.1e} is more than 1e-5")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
