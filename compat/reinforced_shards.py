"""Shards that mobileclip wrote, read by webdataset, NumPy and PyTorch: the same samples with the same contents.

Reinforces SHARDS twice, with f32 (npz) and with bf16 embeddings (pth.gz), and reads both with the libraries that the published trainer uses.

    cargo build --release -p mobileclip-cli
    venv/bin/pip install -r compat/requirements.txt webdataset==1.0.2
    venv/bin/python compat/reinforced_shards.py SHARDS TEACHER[=VARIANT]
"""

import argparse
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
import webdataset

ROOT = Path(__file__).resolve().parent.parent


def samples(folder: Path):
    shards = sorted(str(path) for path in folder.glob("*.tar*"))
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("teacher")
    args = parser.parse_args()
    binary = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
    problems = []
    with tempfile.TemporaryDirectory() as work:
        sets = {}
        for dtype, packing in [("f32", "none"), ("bf16", "gz")]:
            out = Path(work) / dtype
            subprocess.run([binary, "reinforce", "embeddings", "--input", args.shards, "--output", str(out), "--teacher", args.teacher, "-k", "3",
                            "--dtype", dtype, "--compress", packing, "--quiet"], check=True)
            sets[dtype] = samples(out)
            lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
            if sum(line["num_uids"] for line in lines) != len(sets[dtype]):
                problems.append(f"{dtype}: the manifest counts other samples than webdataset")
        if len(sets["f32"]) != len(sets["bf16"]):
            problems.append("the sets have different lengths")
        for full, half in zip(sets["f32"], sets["bf16"]):
            key = full["__key__"]
            arrays = dict(numpy.load(io.BytesIO(full["npz"])))
            tensors = torch.load(io.BytesIO(gzip.decompress(half["pth.gz"])), weights_only=True)
            if key != half["__key__"] or set(arrays) != set(tensors):
                problems.append(f"{key}: other keys or arrays")
                continue
            for name, array in arrays.items():
                tensor = tensors[name]
                expected = torch.from_numpy(array).to(torch.bfloat16)
                if array.dtype != numpy.float32 or tensor.dtype != torch.bfloat16 or not torch.equal(tensor, expected):
                    problems.append(f"{key}: {name} differs")
            parameters = json.loads(full["paug.json"])["param_aug"]
            if parameters != json.loads(half["paug.json"])["param_aug"] or len(parameters) != 3 or len(arrays["image_emb"]) != 3:
                problems.append(f"{key}: other parameters")
            same = [suffix for suffix in full if not suffix.startswith("__") and suffix not in ("npz", "pth.gz")]
            problems += [f"{key}: {suffix} differs" for suffix in same if full[suffix] != half.get(suffix)]
    for problem in problems[:20]:
        print("FAIL", problem)
    if not problems:
        print(f"{len(sets['f32'])} samples, equal in NumPy's and in PyTorch's form")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
