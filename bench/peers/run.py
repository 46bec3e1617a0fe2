"""Time towers in our engine and in other runtimes, in turns, on the same weights and inputs.

    cargo build --release -p mobileclip-cli
    cargo build --release -p mobileclip-engine --example serve
    cargo build --release -p mobileclip-testing --example formula_checkpoint
    python -m venv VENV && VENV/bin/pip install -r bench/peers/requirements.txt
    VENV/bin/python bench/peers/run.py [--only SECTION…] [--threads 1 2] [--batches 1 16] [--seconds N]

Sections: {sections}; `wide` sets MCi3 against an MCi2 of as many parameters.

Every engine is a process of its own that waits while another one runs. A round gives each a turn, in an order that changes; a
turn is a few runs, the first of which does not count where runs are short. Rounds end when there are {enough} runs of each, or
after the seconds for a table's cell; batches of which one round would take longer are left out. A ratio is the median over rounds of two engines' medians in the same round. Features
must agree before anything is timed. Results are merged into docs/performance/peers.json; report.py makes tables and
charts of it.
"""
import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target/release"
RESULTS = ROOT / "docs/performance/peers.json"
SECTIONS = {
    "s0": ("MobileCLIP2-S0", "image"), "s2": ("MobileCLIP2-S2", "image"), "s3": ("MobileCLIP2-S3", "image"),
    "s4": ("MobileCLIP2-S4", "image"), "b": ("MobileCLIP2-B", "image"), "l14": ("MobileCLIP2-L-14", "image"),
    "text512": ("MobileCLIP2-S0", "text"), "text768": ("MobileCLIP2-S3", "text"),
}
OURS = ["mobileclip-f32", "mobileclip-bf16", "mobileclip-int8"]
PEERS = ["pytorch", "onnxruntime", "openvino-f32", "openvino-bf16"]
ENOUGH = {1: 30, 16: 10}
# The norm of the difference over the norm. OpenVINO in bf16 reaches 0.06 on the text towers; a wrong graph is far beyond.
TOLERANCE = {"f32": 1e-4, "bf16": 0.2, "int8": 0.2}
TURN_MS = 250
WIDE_SIZES = (256, 512, 768, 1024)
# Widths of golden/models/mci2_wide.json: 126 M parameters, MCi3 has 125 M.
WIDE_WIDTHS = "[152, 304, 608, 1216]"


def precision_of(engine):
    return engine.rpartition("-")[2] if "-" in engine else "f32"


class Engine:
    """A process that runs one tower."""

    def __init__(self, name, spec):
        self.name = name
        threads = str(spec["threads"])
        if name.startswith("mobileclip"):
            command = [RELEASE / "examples/serve", spec["variant"], spec["tower"], "--threads", threads]
            command += ["--precision", precision_of(name)] if precision_of(name) != "f32" else []
            command += ["--size", str(spec["size"])] if spec["size"] else []
        else:
            command = [sys.executable, Path(__file__).with_name("worker.py"), name, json.dumps(spec)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(word) for word in command], stdin=pipe, stdout=pipe, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended at `{line}`")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def wide_variant(work):
    """MCi2's description with wider stages."""
    path = work / "mci2-wide.toml"
    text = (ROOT / "crates/arch/variants/mobileclip2-s2.toml").read_text()
    text = text.replace("[80, 160, 320, 640]", WIDE_WIDTHS).replace('"MobileCLIP2-S2"', '"MCi2-wide"')
    path.write_text(text)
    return str(path)


def specification(work, variant, tower, threads, size=None):
    """Makes the checkpoint and the ONNX model that are not there yet."""
    name = Path(variant).stem
    checkpoint = work / f"{name}.safetensors"
    model = work / f"{name}-{tower}{f'-{size}' if size else ''}.onnx"
    if not checkpoint.exists():
        run(RELEASE / "examples/formula_checkpoint", variant, checkpoint)
    if not model.exists():
        export = [RELEASE / "mobileclip", "export", checkpoint, "--variant", variant, "--onnx", "--tower", tower, "--out", model, "--quiet"]
        run(*export, *(["--image-size", size] if size else []))
    facts = {"onnx": str(model), "checkpoint": str(checkpoint), "variant": variant, "tower": tower, "threads": threads}
    return facts | {"size": size or (image_side(variant) if tower == "image" else None)}


def run(*words):
    subprocess.run([str(word) for word in words], check=True)


def image_side(variant):
    path = Path(variant) if variant.endswith(".toml") else ROOT / f"crates/arch/variants/{variant.lower()}.toml"
    return next(int(line.split("=")[1]) for line in path.read_text().splitlines() if line.startswith("size ="))


def agreement(engines):
    """Every engine's distance from our f32 features; ends the program where it is no rounding."""
    features = {engine.name: np.array(engine.ask("features")["features"]) for engine in engines}
    exact = features[OURS[0]]
    errors = {}
    for name, row in features.items():
        error = float(np.linalg.norm(row - exact) / np.linalg.norm(exact))
        cosine = float(row @ exact / np.linalg.norm(row) / np.linalg.norm(exact))
        if not error <= TOLERANCE[precision_of(name)]:
            raise SystemExit(f"{name}: features differ by {error:.2e}")
        errors[name] = {"error": error, "cosine": cosine}
    return errors


def turns(engines, batch, enough, seconds):
    """Milliseconds of every engine, a list for each round."""
    facts, estimate = {}, {}
    for engine in engines:
        answer = engine.ask(f"run {2 if batch == 1 else 1} {batch}")
        estimate[engine.name] = min(answer.pop("ms"))
        facts[engine.name] = answer
    rounds = {engine.name: [] for engine in engines}
    start, order = time.monotonic(), list(engines)
    while min(sum(map(len, lists)) for lists in rounds.values()) < enough:
        if rounds[order[0].name] and time.monotonic() - start > seconds:
            break
        order.append(order.pop(0))
        for engine in order:
            # Threads of the one before spin a little before they sleep.
            time.sleep(0.03)
            counted = max(1, min(5, round(TURN_MS / estimate[engine.name])))
            unmeasured = int(estimate[engine.name] < TURN_MS)
            rounds[engine.name].append(engine.ask(f"run {counted + unmeasured} {batch}")["ms"][unmeasured:])
    return rounds, facts


def cell(engines, batch, enough, seconds):
    """Medians, minima and ratios of the engines at one batch."""
    peak = [engines[0].ask("peak")]
    rounds, facts = turns(engines, batch, enough, seconds)
    peak.append(engines[0].ask("peak"))
    medians = {name: [statistics.median(times) for times in lists] for name, lists in rounds.items()}
    ours = medians[OURS[0]]
    results = {}
    for name, lists in rounds.items():
        times = [time for list in lists for time in list]
        ratio = statistics.median(theirs / mine for theirs, mine in zip(medians[name], ours))
        results[name] = {"median_ms": statistics.median(times), "min_ms": min(times), "runs": len(times), "times_ours": ratio}
        results[name] |= facts[name]
    return {"peak_gflops": {key: max(entry[key] for entry in peak) for key in peak[0]}, "engines": results}


def section(work, name, variant, tower, arguments, threads, names, size=None):
    """All batches of one tower at one number of threads."""
    spec = specification(work, variant, tower, threads, size)
    engines = [Engine(engine, spec) for engine in names]
    try:
        facts = engines[0].ask("facts")
        errors = agreement(engines)
        single_ms = 0.0
        for batch in sorted(arguments.batches):
            round_seconds = batch * single_ms / 1e3
            if round_seconds > arguments.seconds:
                print(f"{name} {tower} threads {threads} batch {batch}: left out, a round would take {round_seconds:.0f} s", flush=True)
                continue
            result = cell(engines, batch, ENOUGH.get(batch, 10), arguments.seconds)
            single_ms = sum(entry["median_ms"] for entry in result["engines"].values()) / batch
            for engine, entry in result["engines"].items():
                entry |= errors[engine]
            shown = ", ".join(f"{key} {entry['median_ms']:.1f}" for key, entry in result["engines"].items())
            print(f"{name} {tower} {size or ''} threads {threads} batch {batch}: {shown}", flush=True)
            row = {"section": name, "variant": Path(variant).stem, "tower": tower, "size": spec["size"], "threads": threads, "batch": batch}
            yield row | {"gflop": facts["gflop"], "isa": facts["isa"], "packing_ms": facts["packing_ms"], **stamp(), **result}
    finally:
        for engine in engines:
            engine.close()


def stamp():
    """Where and when: entries of several runs may stand in one file."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    libraries = {name: version(name) for name in ("torch", "onnxruntime", "openvino", "timm", "open_clip_torch")}
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"), "processor": model,
        "system": f"{platform.system()} {platform.release().partition('-')[0]}", "load": Path("/proc/loadavg").read_text().split()[0],
        "commit": commit.stdout.strip(), "versions": libraries,
    }


def key(row):
    return tuple(row[name] for name in ("section", "variant", "tower", "size", "threads", "batch"))


def save(rows):
    """Merges rows into the results as they come: those of the same tower, threads and batch are replaced."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        merged = {key(row): row for row in known} | {key(row): row}
        lines = ",\n".join(json.dumps(row) for row in merged.values())
        RESULTS.write_text(f"[\n{lines}\n]\n")


def main():
    text = __doc__.format(sections=", ".join([*SECTIONS, "wide"]), enough=ENOUGH[1])
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda words: words.split(","), default=[*SECTIONS, "wide"], metavar="SECTION,…")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=20, help="the most for one cell of the table, but for its first round")
    parser.add_argument("--engines", nargs="+", default=[*OURS, *PEERS], help="the first must be mobileclip-f32")
    parser.add_argument("--work", type=Path, help="a folder that keeps the weights, 10 GB; without it, 3 GB are needed for a while")
    arguments = parser.parse_args()
    unknown = set(arguments.only) - {*SECTIONS, "wide"}
    if unknown or arguments.engines[0] != OURS[0]:
        parser.error(f"no section {', '.join(sorted(unknown))}" if unknown else f"the first engine must be {OURS[0]}")
    for name in arguments.only:
        if arguments.work:
            arguments.work.mkdir(parents=True, exist_ok=True)
            measure(name, arguments)
            continue
        with tempfile.TemporaryDirectory(prefix="work-", dir=Path(__file__).parent) as work:
            measure(name, argparse.Namespace(**vars(arguments) | {"work": Path(work)}))


def measure(name, arguments):
    """One section with every number of threads."""
    if name == "wide":
        compare_designs(arguments)
        return
    variant, tower = SECTIONS[name]
    for threads in arguments.threads:
        save(section(arguments.work, name, variant, tower, arguments, threads, arguments.engines))


def compare_designs(arguments):
    """MCi3 and the wide MCi2 at several sizes, with all threads."""
    # PyTorch is no rival here, and other precisions say nothing about the two designs.
    names = [engine for engine in arguments.engines if precision_of(engine) == "f32" and engine != "pytorch"]
    once = argparse.Namespace(**vars(arguments) | {"batches": [1], "seconds": arguments.seconds / 2})
    for size in WIDE_SIZES:
        for variant in ("MobileCLIP2-S3", wide_variant(arguments.work)):
            save(section(arguments.work, "wide", variant, "image", once, max(arguments.threads), names, size))
            # Half a gigabyte each, made again in two seconds.
            Path(specification(arguments.work, variant, "image", 1, size)["onnx"]).unlink()


if __name__ == "__main__":
    main()
