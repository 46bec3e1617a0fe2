"""Time decoding and resizing a 2-megapixel 4:2:0 JPEG against Pillow on one thread, in one run, with the bytes compared.

    python3.11 -m venv venv && venv/bin/pip install -r compat/images/requirements.txt
    cargo build --release -p mobileclip-image --example photo_speed
    venv/bin/python compat/images/bench.py [--rounds N] [--runs N] [PHOTO…]

The photo is resized to a shortest side of 256, bicubic, and its centre cropped, which is what a tower sees. Without PHOTO one of 1632 x 1224 is made
of a bundled one. The two sides take turns, times are those on the processor; of each side the median and the fastest run are printed, and the ratio of
the medians. Exit code 1 if bytes differ.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import PIL
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/examples/photo_speed"
SIZE = 256


def two_megapixels(path):
    """A photo of 1632 x 1224: the bundled one, cropped to 4:3, enlarged; quality 88, chroma halved both ways."""
    photo = Image.open(ROOT / "golden/images_small/astronaut.png").convert("RGB")
    width, height = photo.size
    photo = photo.crop((0, 0, width, width * 3 // 4)).resize((1632, 1224), Image.LANCZOS)
    photo.save(path, quality=88, subsampling="4:2:0")


def pillow(path, runs):
    times = {"decode": [], "crop": []}
    for _ in range(runs):
        start = time.thread_time()
        photo = Image.open(path).convert("RGB")
        decoded = time.thread_time()
        width, height = photo.size
        short = (SIZE, int(SIZE * height / width)) if width <= height else (int(SIZE * width / height), SIZE)
        small = photo.resize(short, Image.BICUBIC)
        left, top = round((small.width - SIZE) / 2), round((small.height - SIZE) / 2)
        crop = small.crop((left, top, left + SIZE, top + SIZE))
        end = time.thread_time()
        times["decode"].append(1e3 * (decoded - start))
        times["crop"].append(1e3 * (end - decoded))
    return times, crop.tobytes()


def ours(path, runs, out):
    done = subprocess.run([BINARY, path, str(runs), out], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), out.read_bytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="in each round")
    arguments = parser.parse_args()
    print(f"Pillow {PIL.__version__}, one thread, ms of processor time: median (fastest)")
    equal = True
    with tempfile.TemporaryDirectory() as scratch:
        photos = arguments.photos or [Path(scratch) / "made.jpg"]
        if not arguments.photos:
            two_megapixels(photos[0])
        for photo in photos:
            sides = {"Pillow": {"decode": [], "crop": []}, "mobileclip": {"decode": [], "crop": []}}
            for _ in range(arguments.rounds):
                theirs, their_bytes = pillow(photo, arguments.runs)
                our, our_bytes = ours(photo, arguments.runs, Path(scratch) / "crop")
                for side, times in (("Pillow", theirs), ("mobileclip", our)):
                    for step in times:
                        sides[side][step] += times[step]
                equal &= their_bytes == our_bytes
            width, height = Image.open(photo).size
            print(f"{photo.name}, {width} x {height}, bytes {'equal' if equal else 'DIFFER'}")
            for side in sides.values():
                side["both"] = [a + b for a, b in zip(side["decode"], side["crop"])]
            for step in ("decode", "crop", "both"):
                theirs, our = sides["Pillow"][step], sides["mobileclip"][step]
                cells = [f"{name} {median(times):6.2f} ({min(times):.2f})" for name, times in (("Pillow", theirs), ("mobileclip", our))]
                print(f"  {step:6}  {'  '.join(cells)}  {median(theirs) / median(our):.2f} times as fast")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
