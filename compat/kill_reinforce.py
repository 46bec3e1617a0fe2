"""Four processes reinforce one list of shards together; one of them is killed (SIGKILL) at random moments, twenty times, and started anew.
The shards are those of one process that nobody disturbed, byte for byte: none is lost, none is doubled, nothing half done is left.

The set is cut into many small shards first, so that a kill hits every part of the work. Needs Python's standard library alone; the
teacher may be any model, a small one is quicker.

    cargo build --release -p mobileclip-cli
    python3 compat/kill_reinforce.py SHARDS TEACHER[=VARIANT]

With --store, the four processes read from and write to an S3 server on loopback that misbehaves (store_server.py; needs
requirements-stores.txt, and a binary that was built with `--features stores`). The undisturbed process works on the disk.
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
WORKERS = 4


class OnDisk:
    """Where the four processes read and write: a folder."""

    env = None

    def __init__(self, work: Path):
        self.folder = work / "shared"
        self.source, self.shared = str(work / "in"), str(self.folder)

    def remove(self, names: list[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def tell(self) -> None:
        pass

    def stop(self) -> None:
        pass


class OnStore:
    """The same on a store."""

    source, shared = "s3://shards/in", "s3://shards/out"

    def __init__(self, work: Path, args: argparse.Namespace):
        from store_server import Store

        self.store = Store(args.faults, args.seed)
        self.env = self.store.env()
        self.store.client.create_bucket(Bucket="shards")
        for path in (work / "in").glob("*.tar"):
            self.store.client.put_object(Bucket="shards", Key=f"in/{path.name}", Body=path.read_bytes())

    def remove(self, names: list[str]) -> None:
        for name in names:
            self.store.client.delete_object(Bucket="shards", Key=f"out/{name}")

    def files(self) -> dict[str, bytes]:
        objects = self.store.objects("shards")
        return {key.removeprefix("out/"): content for key, content in objects.items() if key.startswith("out/")}

    def tell(self) -> None:
        print("requests:", ", ".join(f"{kind} {count}" for kind, count in sorted(self.store.counts.items())))

    def stop(self) -> None:
        self.store.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="shards of pictures and captions")
    parser.add_argument("teacher", help="a checkpoint, =VARIANT after it where need be")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--samples", type=int, default=20, help="samples of a shard")
    parser.add_argument("--augmentations", default="4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", default="2", help="of the undisturbed process and the last one")
    parser.add_argument("--store", action="store_true", help="shards are on an S3 server")
    parser.add_argument("--faults", type=float, default=0.1, help="share of the store's requests that go wrong")
    args = parser.parse_args()
    binary = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pack = [binary, "shards", "repack", args.shards, "--output", str(work / "in"), "--samples", str(args.samples), "--cache", str(work / "cache")]
        subprocess.run(pack + ["--quiet"], check=True)

        place = OnStore(work, args) if args.store else OnDisk(work)

        def command(source: str, out: str, threads: str) -> list[str]:
            return [binary, "reinforce", "embeddings", "--input", source, "--output", out, "--teacher", args.teacher,
                    "--augmentations", args.augmentations, "--threads", threads, "--batch", "2", "--lease", "10", "--quiet"]

        def worker() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command(place.source, place.shared, "1"), env=place.env)

        start = time.monotonic()
        subprocess.run(command(str(work / "in"), str(work / "alone"), args.threads), check=True)
        alone = time.monotonic() - start
        expected = {path.name: path.read_bytes() for path in (work / "alone").glob("*.tar")}
        names = sorted(expected)
        print(f"{len(names)} shards, {alone:.1f} s by one undisturbed process")

        workers = [worker() for _ in range(WORKERS)]
        killed, restarted_late = 0, 0
        start = time.monotonic()
        while killed < args.kills:
            # Over about the time that the work takes, so that kills find it begun and not yet done.
            time.sleep(random.uniform(0, 2 * alone / args.kills))
            victim = random.randrange(WORKERS)
            if workers[victim].poll() is not None:
                restarted_late += 1
                # Everything was made already: begin again, so that there is something to kill.
                place.remove(random.sample(names, len(names) // 2))
            workers[victim].kill()
            workers[victim].wait()
            killed += 1
            workers[victim] = worker()
        codes = [worker.wait() for worker in workers]
        last = subprocess.run(command(place.source, place.shared, args.threads) + ["--json"], check=True, capture_output=True, text=True, env=place.env)
        print(f"{killed} kills in {time.monotonic() - start:.1f} s; the set was done {restarted_late} times before a kill and half of it removed")
        place.tell()

        problems = []
        if any(codes):
            problems.append(f"workers that were not killed ended with {codes}")
        if json.loads(last.stdout)["shards_found"] != len(names):
            problems.append(f"a last run had to make shards: {last.stdout.strip()}")
        found = place.files()
        beside = {name for name in found if not name.startswith(".reinforce/")} - set(names)
        if beside != {"config.json", "manifest.jsonl"}:
            problems.append(f"the folder has {sorted(beside)} besides the shards")
        differing = [name for name in names if found.get(name) != expected[name]]
        if differing:
            problems.append(f"{len(differing)} shards differ or are lost: {differing[:5]}")
        leases = [name for name in found if name.endswith(".lease")]
        if leases:
            problems.append(f"leases are left: {leases[:5]}")
        listed = [json.loads(line)["shard"] for line in found["manifest.jsonl"].decode().splitlines()]
        if listed != names:
            problems.append("the manifest does not list each shard once")
        place.stop()
    for problem in problems:
        print("FAIL", problem)
    if not problems:
        print(f"the {len(names)} shards are equal byte for byte")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
