"""TensorBoard reads what `mobileclip train` wrote: every step once, with the numbers of the log.

    venv/bin/pip install -r compat/requirements-curves.txt
    venv/bin/python compat/curves.py RUN

RUN is the folder of a run, best of one that was killed and resumed (`kill_train.py --keep DIR` leaves some).
"""

import argparse
import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NAMES = {
    "loss": "loss", "contrastive_loss": "loss/contrastive", "distill_loss": "loss/distill", "caption_loss": "loss/caption", "lr": "lr",
    "gradient_norm": "gradient norm", "logit_scale": "logit scale", "skipped": "skipped", "seconds": "seconds",
}


def single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    expected: dict[str, dict[int, float]] = {}
    for line in (args.run / "log.jsonl").read_text().splitlines():
        line = json.loads(line)
        numbers = {NAMES[key]: value for key, value in line.items() if key in NAMES} | line.get("measured", {})
        for name, value in numbers.items():
            expected.setdefault(name, {})[line["step"]] = single(value)
    events = EventAccumulator(str(args.run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        scalars = events.Scalars(name)
        found[name] = {scalar.step: scalar.value for scalar in scalars}
        if len(scalars) != len(found[name]):
            print(f"FAIL: {name} has {len(scalars)} numbers for {len(found[name])} steps")
            return 1
    files = len(list((args.run / "tensorboard").iterdir()))
    print(f"{files} files, {len(found)} curves, {len(found['loss'])} steps")
    if found != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        print(f"FAIL: not the log's numbers: {', '.join(wrong)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
