"""Measure a program that has just started: one photo and two labels, with and without cached labels, and a text query.

    cargo build --release -p mobileclip-cli
    target/release/mobileclip convert MobileCLIP2-S0 s0.safetensors
    python3 bench/startup.py s0.safetensors [--photo PHOTO] [--runs N] [--threads N]

Each is a process of its own, timed from its start to its end, `--runs` times; the peak memory is what the system says of
the process. The files are in the system's cache after the first run, which is not counted. Needs Python alone (Linux or macOS).
`MOBILECLIP_BINARY` names another binary than `target/release/mobileclip`.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("MOBILECLIP_BINARY", ROOT / "target/release/mobileclip"))
PHOTO = ROOT / "golden/images_small/astronaut.png"


def timed(command, environment):
    """Seconds from start to end, and the peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: {message.decode().strip()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a deploy file")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    common = ["--model", arguments.model, "--threads", str(arguments.threads), "--quiet"]
    classify = [BINARY, "classify", arguments.photo, "--labels", "cat,dog", *common]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "MOBILECLIP_CACHE": f"{scratch}/cache"}
        photos, index = Path(scratch) / "photos", Path(scratch) / "index"
        photos.mkdir()
        shutil.copy(arguments.photo, photos)
        timed([BINARY, "index", photos, "--out", index, *common], environment)
        search = [BINARY, "search", index, "a person in a suit", *common]
        size = arguments.model.stat().st_size / 1e6
        print(f"{arguments.model.name}, {size:.0f} MB, {arguments.threads} threads, {arguments.runs} runs; seconds: median (fastest to slowest); peak memory in MB")
        cases = {
            "one photo, two labels, nothing cached": [*classify, "--no-cache"],
            "one photo, two labels, labels cached": classify,
            "a text query, nothing cached": [*search, "--no-cache"],
            "a text query, cached": search,
        }
        for name, command in cases.items():
            timed(command, environment)
            runs = [timed(command, environment) for _ in range(arguments.runs)]
            seconds, memory = sorted(run[0] for run in runs), max(run[1] for run in runs)
            print(f"  {name:38}  {median(seconds):.3f} ({seconds[0]:.3f} to {seconds[-1]:.3f})  {memory:.0f} MB, {memory / size:.2f} of the file")


if __name__ == "__main__":
    main()
