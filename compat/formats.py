"""JSON lines and TFRecord against the Python packages: what they write we read, what we write they read.

    cargo build --release -p mobileclip-cli
    venv/bin/pip install numpy==2.4.6 tfrecord==1.14.6 webdataset==1.0.2
    venv/bin/python compat/formats.py [--make FILE]

Writes a TFRecord file with the `tfrecord` package, whose samples `mobileclip shards repack` must give to webdataset unchanged; and repacks
reinforced tar shards (golden/shards) to JSON lines, whose arrays `pickle` and NumPy must read with every bit. `--make` keeps the TFRecord file:
crates/shards/tests/data/package.tfrecord was made so.
"""

import argparse
import base64
import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy
import webdataset
from tfrecord.writer import TFRecordWriter

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
PICTURE = (ROOT / "golden/images/photos/tiny_17x11_420.jpg").read_bytes()
RECORDS = [
    {"uid": (f"{i:032x}".encode(), "byte"), "image": (PICTURE, "byte"), "text": (f"a café, {i} times".encode(), "byte"),
     "width": (17, "int"), "shift": (-5 - i, "int"), "score": ([0.25 * i, -1.5], "float")}
    for i in range(3)
]


def repacked(work: Path, shards: Path, *options: str) -> Path:
    out = work / f"out{len(list(work.iterdir()))}"
    subprocess.run([BINARY, "shards", "repack", str(shards), "--output", str(out), "--cache", str(work / "cache"), "--quiet", *options], check=True)
    return out


def records(work: Path, made: Path | None) -> list[str]:
    path = work / "0.tfrecord"
    writer = TFRecordWriter(str(path))
    for record in RECORDS:
        writer.write(record)
    writer.close()
    if made:
        shutil.copy(path, made)
    problems = []
    samples = list(webdataset.WebDataset(str(repacked(work, path) / "00000000.tar"), shardshuffle=False, empty_check=False))
    if len(samples) != len(RECORDS):
        problems.append(f"{len(samples)} samples of {len(RECORDS)} records")
    for sample, record in zip(samples, RECORDS):
        expected = {"uid": record["uid"][0].decode(), "width": 17, "shift": record["shift"][0], "score": record["score"][0]}
        if sample["jpg"] != PICTURE or sample["txt"] != record["text"][0] or json.loads(sample["json"]) != expected:
            problems.append(f"{sample['__key__']}: differs: {sample['json']}")
    return problems


def lines(work: Path) -> list[str]:
    problems, compared = [], 0
    for name in ["npz-list", "per-key"]:
        shard = ROOT / f"golden/shards/{name}/00000000.tar"
        for packing in ["none", "gz"]:
            out = repacked(work, shard, "--format", "jsonl", "--compress", packing)
            opened = gzip.open if packing == "gz" else open
            with opened(next(out.glob("*.jsonl*")), "rt", encoding="utf-8") as file:
                objects = [json.loads(line) for line in file]
            samples = list(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))
            if len(objects) != len(samples):
                problems.append(f"{name}: {len(objects)} lines of {len(samples)} samples")
            for line, sample in zip(objects, samples):
                same = (line["uid"] == sample["__key__"] and line["text"] == sample["txt"].decode() and base64.b64decode(line["image"]) == sample["jpg"]
                        and line["param_aug"] == json.loads(sample["paug.json"])["param_aug"]
                        and {k: v for k, v in line.items() if k.startswith("syn_text") and not k.endswith("_emb")} == json.loads(sample["syn.json"]))
                arrays = numpy.load(io.BytesIO(sample["npz"]))
                for array in arrays.files:
                    found = pickle.loads(gzip.decompress(base64.b64decode(line[array])))
                    same = same and found.dtype == numpy.float32 and numpy.array_equal(found, arrays[array])
                    compared += 1
                if not same:
                    problems.append(f"{name}: {sample['__key__']} differs")
    print(f"{compared} arrays of JSON lines compared")
    return problems


def main() -> int:
    # The name that both NumPy 1 and 2 know.
    warnings.filterwarnings("ignore", message="numpy.core.numeric is deprecated", category=DeprecationWarning)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        problems = records(Path(work), args.make) + lines(Path(work))
    for problem in problems:
        print("FAIL", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
