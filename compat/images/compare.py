"""Compare resized noise and decoded files with Pillow's.

    python3.11 -m venv venv && venv/bin/pip install -r compat/images/requirements.txt
    cargo build --release -p mobileclip-image --example digest
    venv/bin/python compat/images/compare.py [--seed N] [--cases N] [FILE_OR_FOLDER…]

Without files only resizes and crops of random sizes are compared, in all filters and modes; with files their decoding too
(16-bit gray is left out: Pillow clips it, we keep the high byte). Exit code 1 if anything differs.
"""
import argparse
import hashlib
import json
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

BINARY = Path(__file__).resolve().parents[2] / "target/release/examples/digest"
FILTERS = {"nearest": Image.NEAREST, "box": Image.BOX, "bilinear": Image.BILINEAR, "hamming": Image.HAMMING,
           "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
LARGEST = 30_000_000  # pixels of an image that Pillow makes before it is cropped


def noise(seed, width, height):
    """The high bytes of splitmix64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, width * height * 3 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return Image.fromarray((z >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3))


def answer(image):
    return f"{image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()}"


def center(image, width, height, fill):
    """torchvision's CenterCrop: pads first, rounds half to even."""
    canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)), (fill,) * 3)
    canvas.paste(image, (max(width - image.width, 0) // 2, max(height - image.height, 0) // 2))
    left, top = round((canvas.width - width) / 2), round((canvas.height - height) / 2)
    return canvas.crop((left, top, left + width, top + height))


def resized(image, mode, to, kernel, fill):
    """open_clip's inference transform up to the crop; None where the image on the way is too large or empty."""
    (w, h), (tw, th) = image.size, to
    if mode in ("resize", "squash"):
        return image.resize(to, kernel)
    if mode == "shortest" and tw == th:
        size = (tw, int(tw * h / w)) if w <= h else (int(tw * w / h), tw)
    else:
        ratio = (max if mode == "longest" else min)(h / th, w / tw)
        size = round(w / ratio), round(h / ratio)
        kernel = kernel if mode == "longest" else Image.BICUBIC
    if not 0 < size[0] * size[1] <= LARGEST:
        return None
    return center(image.resize(size, kernel), tw, th, fill if mode == "longest" else 0)


def resize_cases(count, r):
    for _ in range(count):
        side = lambda: r.randint(1, r.choice([12, 200, 900]))  # noqa: E731
        mode = r.choice(["resize", "resize", "shortest", "longest", "squash"])
        size = (side(), side())
        if mode != "resize" and r.random() < 0.6:
            size = (size[0], size[0])
        case = {"seed": r.getrandbits(40), "from": [side(), side()], "to": size, "filter": r.choice(list(FILTERS)),
                "pass_order": "pillow13", "mode": mode, "fill_color": r.choice([0, 7, 255])}
        image = noise(case["seed"], *case["from"])
        out = resized(image, mode, size, FILTERS[case["filter"]], case["fill_color"])
        if out is not None:
            yield case, answer(out)


def decode_cases(paths):
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            for upright in (False, True):
                try:
                    image = Image.open(file)
                    if image.mode.startswith("I;16"):
                        break
                    image = ImageOps.exif_transpose(image) if upright else image
                    expected = answer(image.convert("RGB"))
                except Exception as error:  # noqa: BLE001  whatever Pillow raises, it is an error
                    expected = f"error {error!r}"
                yield {"file": str(file), "upright": upright}, expected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [*resize_cases(options.cases, random.Random(options.seed)), *decode_cases(options.paths)]
    lines = "".join(json.dumps(case) + "\n" for case, _ in cases)
    found = subprocess.run([BINARY], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    failures = 0
    for (case, expected), got in zip(cases, found, strict=True):
        if got != expected and not (got.startswith("error") and expected.startswith("error")):
            failures += 1
            print(f"FAIL {json.dumps(case)}\n  Pillow {expected}\n  ours   {got}")
    print(f"{len(cases) - failures} of {len(cases)} equal to Pillow {Image.__version__}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
