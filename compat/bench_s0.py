"""Time MobileCLIP2-S0's image tower: PyTorch eager in its best memory format against `mobileclip bench`, in one run.

    cargo build --release -p mobileclip-cli
    python compat/bench_s0.py CHECKPOINTS [--rounds N] [--runs N] [--threads N…] [--report FILE]

Batch 1, f32, the reparameterised tower under `torch.inference_mode`, NCHW and channels_last. The contestants take turns:
each round gives each of them `--runs` timed calls after a warm-up; the medians over all rounds are compared, and with
those the ratio of each round, since on a shared machine rounds differ more than contestants do. Exit code 1 if we are
slower than PyTorch's better format.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from reference import BINARY, REFERENCES, formula

S0 = next(reference for reference in REFERENCES if reference.name == "MobileCLIP2-S0")
WARM_UP = 3
FORMATS = {"PyTorch NCHW": torch.contiguous_format, "PyTorch channels_last": torch.channels_last}


def processor():
    """The model's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


@torch.inference_mode()
def pytorch_ms(tower, image, threads, runs):
    torch.set_num_threads(threads)
    for _ in range(WARM_UP):
        tower(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        tower(image)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def our_ms(checkpoint, threads, runs):
    command = [BINARY, "bench", checkpoint, "--json", "--quiet", "--threads", threads, "--runs", runs]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    step, = (step for step in report["steps"] if step["step"] == "image tower")
    return step["p50_ms"], report["instruction_set"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--report", type=Path, help="append the results to this file as JSON lines")
    arguments = parser.parse_args()
    checkpoint = arguments.checkpoints / "fused" / f"{S0.file}.pt"
    model, _ = S0.load(checkpoint)
    image = torch.from_numpy(formula.image("p", (3, 256, 256)))[None]
    pixels = {name: image.to(memory_format=layout) for name, layout in FORMATS.items()}

    print(f"{processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, PyTorch {torch.__version__}")
    slower = False
    for threads in arguments.threads:
        times = {name: [] for name in (*FORMATS, "mobileclip")}
        for _ in range(arguments.rounds):
            for name, layout in FORMATS.items():
                tower = model.visual.to(memory_format=layout)
                times[name].append(pytorch_ms(tower, pixels[name], threads, arguments.runs))
            ours, isa = our_ms(checkpoint, threads, arguments.runs)
            times["mobileclip"].append(ours)
        medians = {name: median(values) for name, values in times.items()}
        best = min(FORMATS, key=medians.get)
        ratio = median(theirs / ours for theirs, ours in zip(times[best], times["mobileclip"]))
        slower |= ratio < 1.0
        for name, value in medians.items():
            print(f"{threads} threads  {name:22} {value:7.1f} ms  (rounds {min(times[name]):.1f} to {max(times[name]):.1f})")
        print(f"{threads} threads  {isa}: {ratio:.2f} times as fast as {best}", flush=True)
        if arguments.report:
            row = {"threads": threads, "isa": isa, "processor": processor(), "torch": torch.__version__,
                   "rounds_ms": times, "ratio_to": best, "ratio": ratio}
            with arguments.report.open("a") as report:
                report.write(json.dumps(row) + "\n")
    sys.exit(slower)


if __name__ == "__main__":
    main()
