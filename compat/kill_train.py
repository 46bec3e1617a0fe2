"""A training run that is killed (SIGKILL) and resumed is the run that was never killed: every line of its log, and every bit of its model.

Trains a tiny model on a folder of shards once from beginning to end. Then, ten times, the same run again in a folder of its own: killed
at a random moment, gone on with by `--resume latest`. Needs Python's standard library alone.

    cargo build --release -p mobileclip-cli
    python3 compat/kill_train.py SHARDS
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANT = """
name = "tiny"
summary = "small enough for twenty runs"
dialect = "open_clip"
embed_dim = 32

[preprocess]
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
interpolation = "bilinear"

[image]
kind = "mci"
size = 32
depths = [1, 1, 1, 1]
widths = [16, 32, 64, 128]
mlp_ratio = 2
mixers = ["rep_mixer", "rep_mixer", "rep_mixer", "attention"]
downsample_squeeze_excite = [false, false, true, true]
position_kernel = 3
stem_scale_branch = true
attention_norm = "batch_norm"
head_bias = true

[text]
prefix = "text"
vocabulary = 49408
context = 24

[text.blocks]
layers = 2
width = 32
heads = 2
hidden = 128
activation = "gelu"
norm_eps = 1e-5
"""


def command(args, work: Path, out: str) -> list[str]:
    shards = ",".join(str(path) for path in sorted(args.shards.glob("*.tar*")))
    return [
        args.binary, "train", "--quiet", "--model-variant", str(work / "tiny.toml"), "--data-shards", shards, "--data-captions", args.captions,
        "--data-cache", str(work / "cache"), "--data-crop-scale", "0.5,1.0", "--data-flip", "0.5", "--optimiser-lr", "1e-3", "--optimiser-warmup", "5",
        "--optimiser-clip", "1", "--model-ema", "0.99", "--model-drop-path", "0.1", "--run-out", str(work / out), "--run-batch", "32",
        "--run-steps", str(args.steps), "--run-checkpoint-every", str(args.checkpoint_every), "--threads", "2",
    ]


def log(out: Path) -> list[dict]:
    """The lines of a log but for the seconds they took; a last one that is not whole is left out."""
    path = out / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in whole]


def model(out: Path, steps: int) -> list[bytes]:
    folder = out / f"checkpoints/step-{steps:08}"
    return [(folder / name).read_bytes() for name in ("student.safetensors", "optimiser.safetensors", "ema.safetensors")]


def kill_at(command: list[str], seconds: float) -> bool:
    """Starts the command and kills it after so many seconds; whether it was still running."""
    process = subprocess.Popen(command)
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait() == -9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="a folder of .tar, .tar.gz or .tar.zst shards with pictures and captions")
    parser.add_argument("--captions", default="txt", help="where captions stand, as `mobileclip train --data-captions` takes it")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--checkpoint-every", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, instead of one that goes away")
    args = parser.parse_args()
    args.binary = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
    chance = random.Random(args.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as place:
        work = args.keep or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        (work / "tiny.toml").write_text(VARIANT)
        # The first run fills the cache of unpacked shards, so that the second one's time is that of the others.
        for out in ("first", "whole"):
            began = time.monotonic()
            subprocess.run(command(args, work, out), check=True)
            duration = time.monotonic() - began
        expected, tensors = log(work / "whole"), model(work / "whole", args.steps)
        assert len(expected) == args.steps and len({line["loss"] for line in expected}) > args.steps // 2, "the log is no loss curve"
        assert log(work / "first") == expected, "two runs differ that nobody killed"
        print(f"whole: {args.steps} steps in {duration:.1f} s, loss {expected[0]['loss']:.4f} to {expected[-1]['loss']:.4f}")
        kills = 0
        while kills < args.kills:
            out = f"killed-{kills}"
            moment = chance.uniform(0.0, duration)
            if not kill_at(command(args, work, out), moment):
                # It was faster this time than when it was timed.
                subprocess.run(["rm", "-r", str(work / out)], check=True)
                continue
            kills += 1
            done = len(log(work / out))
            checkpoints = sorted(path.name for path in (work / out / "checkpoints").glob("step-*"))
            subprocess.run([*command(args, work, out), "--resume", "latest"], check=True)
            same = log(work / out) == expected and model(work / out, args.steps) == tensors
            failures += not same
            last = checkpoints[-1] if checkpoints else "no checkpoint"
            print(f"killed after {moment:.2f} s, {done} steps logged, resumed from {last}: {'equal' if same else 'FAIL: not equal'}")
    print(f"{args.kills - failures} of {args.kills} equal the run that was not killed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
