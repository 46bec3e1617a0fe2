"""What Python adds to the time of a picture: `model.encode_image` in several forms beside the program's engine, one thread.

    target/release/examples/formula_checkpoint MobileCLIP2-S0 s0.safetensors
    python latency.py s0.safetensors --program target/release/mobileclip

Medians of one run; the program is asked before and after, so that a machine that changed its pace shows.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import mobileclip
import numpy as np
from PIL import Image

PHOTO = Path(__file__).parent / "../golden/images/photos/retina_large.jpg"


def median_ms(work, runs: int) -> float:
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def program_ms(program: str, model: str, runs: int) -> dict[str, float]:
    command = [program, "bench", model, "--threads", "1", "--runs", str(runs), "--json"]
    done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {step["step"]: step["p50_ms"] for step in done["steps"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--program", required=True)
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()

    before = program_ms(args.program, args.model, args.runs)
    model = mobileclip.load(args.model, threads=1)
    file, pil = PHOTO.read_bytes(), Image.open(PHOTO)
    array = np.asarray(pil)
    prepared = model.preprocess(PHOTO)
    ids = model.tokenizer("a photo of a cat")
    forms = {
        "prepared": (lambda: model.encode_image(prepared), ("image tower",)),
        "uint8 array": (lambda: model.encode_image(array), ("preprocess", "image tower")),
        "PIL image": (lambda: model.encode_image(pil), ("preprocess", "image tower")),
        "bytes": (lambda: model.encode_image(file), ("decode", "preprocess", "image tower")),
        "path": (lambda: model.encode_image(PHOTO), ("decode", "preprocess", "image tower")),
        "token ids": (lambda: model.encode_text(ids), ("text tower",)),
        "text": (lambda: model.encode_text("a photo of a cat"), ("tokenise", "text tower")),
    }
    here = {form: median_ms(work, args.runs) for form, (work, _) in forms.items()}
    after = program_ms(args.program, args.model, args.runs)
    print(f"{'form':12} {'Python':>9} {'program':>9} {'again':>9}  ms, {model!r}")
    for form, (_, steps) in forms.items():
        sums = [sum(times[step] for step in steps) for times in (before, after)]
        print(f"{form:12} {here[form]:9.2f} {sums[0]:9.2f} {sums[1]:9.2f}")


if __name__ == "__main__":
    main()
