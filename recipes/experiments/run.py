"""The experiments of arXiv:2311.17049 in small: one student, trained from the same shards with different losses.

    python recipes/experiments/run.py DATA SHARDS OUT --binary target/release/mobileclip

DATA has the evaluation sets (tiny-imagenet-val, cifar10-test, flickr8k-1k), SHARDS the reinforced training shards (README.md tells how they
are made), OUT gets the runs. Results are added to recipes/experiments/results.jsonl, a line for each run; runs that have one are left out.
Runs go side by side, one thread each (`--jobs`). Needs nothing but Python.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SETS = {
    "tiny-imagenet-val": ["acc1"],
    "cifar10-test": ["acc1"],
    "flickr8k-1k": ["image_retrieval_recall@10", "text_retrieval_recall@10"],
}
SEEDS = [1, 2, 3]
SCALES = [10, 30, 50, 70, 100]
# The scale of the comparison with CLIP's loss over several seeds: the best of the first seed, both accuracies taken together.
USUAL_SCALE = 50


def clip(seed: int) -> dict[str, str]:
    return {"loss-contrastive-weight": "1.0", "loss-distill-weight": "0.0", "run-seed": str(seed)}


def reinforced(scale: int, seed: int) -> dict[str, str]:
    """As published: the distillation term alone."""
    flags = {"loss-contrastive-weight": "0.0", "loss-distill-weight": "1.0", "loss-teacher-scales": str(scale)}
    return flags | {"run-seed": str(seed)}


def runs() -> dict[str, dict[str, str]]:
    all_runs = {"clip-seed1": clip(1)} | {f"reinforced-{scale}-seed1": reinforced(scale, 1) for scale in SCALES}
    for seed in SEEDS[1:]:
        all_runs |= {f"clip-seed{seed}": clip(seed), f"reinforced-{USUAL_SCALE}-seed{seed}": reinforced(USUAL_SCALE, seed)}
    return all_runs


def execute(name: str, flags: dict[str, str], args: argparse.Namespace) -> dict:
    out = args.out / name
    common = {"data-shards": f"{args.shards}/*.tar", "data-cache": str(args.out / "cache"), "run-out": str(out)}
    options = [word for key, value in (common | flags).items() for word in (f"--{key}", value)]
    resume = ["--resume", "latest"] if (out / "checkpoints").exists() else []
    began = time.monotonic()
    train = [args.binary, "train", HERE / "base.toml", *options, *resume, "--quiet"]
    subprocess.run([str(word) for word in train], check=True)
    seconds = time.monotonic() - began
    weights = sorted((out / "checkpoints").iterdir())[-1] / "student.safetensors"
    measured = subprocess.run(
        [str(word) for word in [args.binary, "eval", *(args.data / name for name in SETS), "--model", weights,
                                "--variant", out / "variant.toml", "--threads", 1, "--no-cache", "--json", "--quiet"]],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict = {"run": name, "flags": flags, "seconds": round(seconds), "measured": {}}
    for line in map(json.loads, measured.splitlines()):
        for metric in SETS[line["dataset"].removeprefix("wds/")]:
            interval = line["confidence"][metric]
            key = f"{line['dataset'].removeprefix('wds/')} {metric}"
            result["measured"][key] = [line["metrics"][metric], interval["low"], interval["high"]]
    return result


def table(results: list[dict]) -> str:
    metrics = list(results[0]["measured"])
    lines = ["| run | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for result in sorted(results, key=lambda result: list(runs()).index(result["run"])):
        cells = [f"{100 * v:.1f} ({100 * low:.1f} to {100 * high:.1f})" for v, low, high in result["measured"].values()]
        lines.append(f"| {result['run']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--binary", default="mobileclip")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--only", default="", help="runs whose name begins with this")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = HERE / "results.jsonl"
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {result["run"] for result in results}
    left = {name: flags for name, flags in runs().items() if name.startswith(args.only) and name not in done}
    with ThreadPoolExecutor(args.jobs) as pool:
        for result in pool.map(lambda run: execute(*run, args), left.items()):
            results.append(result)
            with file.open("a") as lines:
                lines.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
