"""Four processes reinforce one list of shards together; one of them is killed (SIGKILL) at random moments, twenty times, and started anew.
The shards are those of one process that nobody disturbed, byte for byte: none is lost, none is doubled, nothing half done is left.

The set is cut into many small shards first, so that a kill hits every part of the work. Needs Python's standard library alone; the
teacher may be any model, a small one is quicker.

    cargo build --release -p mobileclip-cli
    python3 compat/kill_reinforce.py SHARDS TEACHER[=VARIANT]
"""

import argparse
import filecmp
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="shards of pictures and captions")
    parser.add_argument("teacher", help="a checkpoint, =VARIANT after it where need be")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--samples", type=int, default=20, help="samples of a shard")
    parser.add_argument("--augmentations", default="4")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    binary = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pack = [binary, "shards", "repack", args.shards, "--output", str(work / "in"), "--samples", str(args.samples), "--cache", str(work / "cache")]
        subprocess.run(pack + ["--quiet"], check=True)

        def command(out: str, threads: str) -> list[str]:
            return [binary, "reinforce", "embeddings", "--input", str(work / "in"), "--output", str(work / out), "--teacher", args.teacher,
                    "--augmentations", args.augmentations, "--threads", threads, "--batch", "2", "--quiet"]

        start = time.monotonic()
        subprocess.run(command("alone", "2"), check=True)
        alone = time.monotonic() - start
        names = sorted(path.name for path in (work / "alone").glob("*.tar"))
        print(f"{len(names)} shards, {alone:.1f} s by one undisturbed process")

        workers = [subprocess.Popen(command("shared", "1")) for _ in range(WORKERS)]
        killed, restarted_late = 0, 0
        start = time.monotonic()
        while killed < args.kills:
            # Over about the time that the work takes, so that kills find it begun and not yet done.
            time.sleep(random.uniform(0, 2 * alone / args.kills))
            victim = random.randrange(WORKERS)
            if workers[victim].poll() is not None:
                restarted_late += 1
                # Everything was made already: begin again, so that there is something to kill.
                for path in random.sample(names, len(names) // 2):
                    (work / "shared" / path).unlink(missing_ok=True)
            workers[victim].kill()
            workers[victim].wait()
            killed += 1
            workers[victim] = subprocess.Popen(command("shared", "1"))
        codes = [worker.wait() for worker in workers]
        last = subprocess.run(command("shared", "2") + ["--json"], check=True, capture_output=True, text=True)
        print(f"{killed} kills in {time.monotonic() - start:.1f} s; the set was done {restarted_late} times before a kill and half of it removed")

        problems = []
        if any(codes):
            problems.append(f"workers that were not killed ended with {codes}")
        if json.loads(last.stdout)["shards_found"] != len(names):
            problems.append(f"a last run had to make shards: {last.stdout.strip()}")
        found = sorted(path.name for path in (work / "shared").iterdir())
        if found != sorted([".reinforce", "config.json", "manifest.jsonl", *names]):
            problems.append(f"the folder has {sorted(set(found) ^ set(names))} besides the shards")
        differing = [name for name in names if not filecmp.cmp(work / "alone" / name, work / "shared" / name, shallow=False)]
        if differing:
            problems.append(f"{len(differing)} shards differ: {differing[:5]}")
        leases = list((work / "shared/.reinforce").glob("*.lease"))
        if leases:
            problems.append(f"leases are left: {leases[:5]}")
        listed = [json.loads(line)["shard"] for line in (work / "shared/manifest.jsonl").read_text().splitlines()]
        if listed != names:
            problems.append("the manifest does not list each shard once")
    for problem in problems:
        print("FAIL", problem)
    if not problems:
        print(f"the {len(names)} shards are equal byte for byte")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
