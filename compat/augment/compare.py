"""Compare replayed augmentations with torchvision's and Pillow's, and the time both take.

    python3.11 -m venv venv && venv/bin/pip install -r compat/augment/requirements.txt
    cargo build --release -p mobileclip-image --example digest
    venv/bin/python compat/augment/compare.py [--seed N] [--cases N] [--time] [FILE_OR_FOLDER…]

Random parameters (every bin of every operation, both signs, the published bin as often as the rest) on noise of random sizes, or on the
files, in the order of the resize passes of the Pillow that is installed. `--time` adds milliseconds of each operation on 224 x 224
pixels, and of decoding + random resized crop + RandAugment of the files, with one thread, fastest of some rounds. Exit code 1 if anything
differs.
"""
import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms as T
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms.autoaugment import _apply_op

BINARY = Path(__file__).resolve().parents[2] / "target/release/examples/digest"
MODES = {"nearest": T.InterpolationMode.NEAREST, "bilinear": T.InterpolationMode.BILINEAR,
         "bicubic": T.InterpolationMode.BICUBIC, "lanczos": T.InterpolationMode.LANCZOS}
VERSION = tuple(int(part) for part in PIL.__version__.split(".")[:2])
ORDER = "pillow13" if VERSION >= (13, 0) else "pillow12_2" if VERSION >= (12, 2) else "horizontal_first"


def noise(seed, width, height):
    """The high bytes of splitmix64."""
    with np.errstate(over="ignore"):
        z = np.arange(1, width * height * 3 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return Image.fromarray((z >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3))


def load(picture):
    return Image.open(picture).convert("RGB") if isinstance(picture, str) else noise(*picture)


def replay(config, stored, image):
    """What the reference does: the transformations in their fixed order, each by torchvision on a Pillow image."""
    slots = iter(stored)
    crop = config.get("random_resized_crop")
    if crop:
        image = F.resized_crop(image, *next(slots), list(crop["size"]), MODES[crop["interpolation"]])
    if "random_horizontal_flip" in config and next(slots):
        image = F.hflip(image)
    augment = config.get("rand_augment")
    if augment:
        names = list(T.RandAugment()._augmentation_space(31, (1, 1)))
        for number, magnitude in next(slots) or []:
            image = _apply_op(image, names[number], magnitude, MODES[augment["interpolation"]], augment["fill"])
    if "random_erase" in config:
        area = next(slots)
        if area:
            pixels = np.array(image)
            top, left, height, width = area
            pixels[top:top + height, left:left + width] = 0
            image = Image.fromarray(pixels)
    return image


def magnitude(name, bins, chosen, size, r):
    values, signed = T.RandAugment()._augmentation_space(bins, size)[name]
    value = float(values[chosen].item()) if values.ndim else 0.0
    return -value if signed and r.random() < 0.5 else value


def operations(r, size, count=2):
    names = list(T.RandAugment()._augmentation_space(31, (1, 1)))
    chosen = [(names.index(n), n) for n in r.choices(names, k=count)]
    return [[i, magnitude(n, 31, r.choice([9, r.randrange(31)]), size, r)] for i, n in chosen]


def cases(count, files, r):
    for _ in range(count):
        side = lambda: r.randint(1, r.choice([4, 60, 400]))  # noqa: E731
        picture = r.choice(files) if files and r.random() < 0.5 else [r.getrandbits(40), side(), side()]
        width, height = Image.open(picture).size if isinstance(picture, str) else picture[1:]
        config, stored, size = {}, [], (height, width)
        if r.random() < 0.8:
            h, w = r.randint(1, height), r.randint(1, width)
            top, left = r.randint(0, height - h), r.randint(0, width - w)
            if r.random() < 0.1:
                top, left = top + r.randint(-20, 20), left + r.randint(-20, 20)
            size = r.choice([(224, 224), (256, 256), (r.randint(1, 300), r.randint(1, 300))])
            config["random_resized_crop"] = {"size": size, "interpolation": r.choice(["bicubic", "bicubic", "bilinear", "lanczos"])}
            stored.append([top, left, h, w])
        if r.random() < 0.3:
            config["random_horizontal_flip"] = {}
            stored.append(r.random() < 0.5)
        if r.random() < 0.95:
            config["rand_augment"] = {"interpolation": r.choice(["nearest"] * 6 + ["bilinear", "bicubic"]),
                                      "fill": r.choice([None, None, [r.randrange(256) for _ in range(3)]])}
            stored.append(operations(r, size) if r.random() < 0.95 else None)
            if stored[-1] and r.random() < 0.1:
                # Angles and shears that RandAugment never has, where Pillow takes other ways.
                stored[-1][0] = r.choice([[5, r.choice([90.0, -90.0, 180.0, 360.0, r.uniform(-720, 720)])],
                                          [r.choice([1, 2]), r.uniform(-30, 30)]])
        if r.random() < 0.2:
            config["random_erase"] = {}
            stored.append([r.randrange(40), r.randrange(40), r.randrange(1, 80), r.randrange(1, 80)] if r.random() < 0.7 else None)
        yield {"config": config, "stored": stored, "picture": picture, "pass_order": ORDER, "rounds": 0}


def ask(requests):
    """The answers of our side, one process for all."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    return subprocess.run([BINARY], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()


def answer(image):
    return f"{image.width} {image.height} {hashlib.sha256(image.tobytes()).hexdigest()}"


def compare(requests):
    failures = 0
    for request, ours in zip(requests, ask(requests), strict=True):
        theirs = answer(replay(request["config"], request["stored"], load(request["picture"])))
        if ours.rsplit(" ", 1)[0] != theirs:
            failures += 1
            print("FAIL", json.dumps(request), ours, theirs)
    print(f"{len(requests)} cases, {failures} differ")
    return failures


def fastest_ms(work, rounds):
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, (time.perf_counter() - start) * 1e3)
    return best


def times(files, r):
    augment = {"rand_augment": {"num_ops": 1, "interpolation": "nearest", "fill": None}}
    crop = {"random_resized_crop": {"size": [224, 224], "interpolation": "bicubic"},
            "rand_augment": {"interpolation": "nearest", "fill": None}}
    names = list(T.RandAugment()._augmentation_space(31, (1, 1)))
    rows = []
    for number, name in enumerate(names[1:], 1):
        stored = [[[number, magnitude(name, 31, 9, (224, 224), r)]]]
        rows.append((name, {"config": augment, "stored": stored, "picture": [number, 224, 224]}))
    for file in files:
        width, height = Image.open(file).size
        top, left, h, w = T.RandomResizedCrop.get_params(torch.empty(3, height, width), (0.08, 1.0), (3 / 4, 4 / 3))
        stored = [[top, left, h, w], operations(r, (224, 224))]
        rows.append((f"{Path(file).name} {width} x {height}", {"config": crop, "stored": stored, "picture": file}))
    requests = [request | {"pass_order": ORDER, "rounds": 20} for _, request in rows]
    failures, sums = 0, [0.0, 0.0]
    for (name, request), ours in zip(rows, ask(requests), strict=True):
        picture = request["picture"]
        image = None if isinstance(picture, str) else load(picture)
        work = lambda: replay(request["config"], request["stored"], image or load(picture))  # noqa: B023, E731
        theirs, (ours, ours_ms) = fastest_ms(work, 20), ours.rsplit(" ", 1)
        same = ours == answer(work())
        failures += not same
        print(f"{name:>40} {theirs:8.3f} ms {float(ours_ms):8.3f} ms {theirs / float(ours_ms):6.2f} x{'' if same else '  FAIL'}")
        if image is None:
            sums = [sums[0] + theirs, sums[1] + float(ours_ms)]
    if files:
        print(f"{'all files':>40} {sums[0]:8.3f} ms {sums[1]:8.3f} ms {sums[0] / sums[1]:6.2f} x")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Pillow {PIL.__version__}, torchvision {torchvision.__version__}, passes {ORDER}")
    r = random.Random(args.seed)
    torch.manual_seed(args.seed)
    found = [f for path in args.files for f in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    files = [str(f) for f in found if f.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    failures = compare(list(cases(args.cases, files, r)))
    if args.time:
        failures += times(files, r)
    sys.exit(failures > 0)


main()
