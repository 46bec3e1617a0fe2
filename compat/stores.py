"""`mobileclip shards`, `reinforce` and `train` on an S3 server that misbehaves (store_server.py), and on a plain web server, give what they give
on a disk. What is missing or forbidden is an error of one line that names the address.

    python3 -m venv venv && venv/bin/pip install -r compat/requirements-stores.txt
    cargo build --release -p mobileclip-cli --features stores
    cargo run --release -p mobileclip-testing --example formula_checkpoint -- crates/cli/tests/data/tiny.toml tiny.safetensors
    venv/bin/python compat/stores.py SHARDS tiny.safetensors=crates/cli/tests/data/tiny.toml
"""

import argparse
import functools
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from store_server import Server, Store

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip"))
PROBLEMS: list[str] = []


def run(env: dict[str, str], *arguments: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([BINARY, *arguments], env=env, capture_output=True, text=True)
    if done.returncode != expected:
        PROBLEMS.append(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def same(what: str, found: object, expected: object) -> None:
    print("equal" if found == expected else "DIFFERENT", what)
    if found != expected:
        PROBLEMS.append(what)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar*"))}


def on_store(store: Store, folder: str) -> dict[str, bytes]:
    found = store.objects("shards").items()
    names = {key.removeprefix(folder + "/"): content for key, content in found if key.startswith(folder + "/")}
    return {name: content for name, content in names.items() if ".tar" in name and "/" not in name}


def refused(env: dict[str, str], what: str, address: str, *expected: str) -> None:
    """The command ends with one line that has all the words."""
    done = run(env, "shards", "stat", address, expected=2)
    lines = done.stderr.strip().splitlines()
    print(f"{what}: {' / '.join(lines)}")
    if len(lines) != 1 or not all(words in lines[0] for words in expected):
        PROBLEMS.append(f"{what}: {lines}")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's web server, which knows no ranges."""

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="shards of pictures and captions; a few hundred samples are enough")
    parser.add_argument("teacher", help="a checkpoint, =VARIANT after it where need be")
    parser.add_argument("--faults", type=float, default=0.1, help="share of the store's requests that go wrong")
    args = parser.parse_args()
    store = Store(args.faults)
    env = store.env()
    store.client.create_bucket(Bucket="shards")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run(env, "shards", "repack", args.shards, "--output", str(work / "in"), "--samples", "40", "--cache", str(work / "cache"), "--quiet")
        shards = contents(work / "in")
        run(env, "shards", "repack", str(work / "in"), "--output", str(work / "gz"), "--samples", "40", "--compress", "gz", "--quiet")
        for folder in ("in", "gz"):
            for key, content in contents(work / folder).items():
                store.client.put_object(Bucket="shards", Key=f"{folder}/{key}", Body=content, ACL="public-read")
        info = json.dumps({"lengths": {f"shards/in/{key}": "40" for key in shards}})
        store.client.put_object(Bucket="shards", Key="in/info.json", Body=info.encode())

        expected = run(env, "shards", "stat", str(work / "in"), "--json").stdout
        braces = "s3://shards/in/{00000000..%08d}.tar" % (len(shards) - 1)
        for address in ("s3://shards/in", "s3://shards/in/*.tar", "s3://shards/in/info.json", braces):
            same(f"shards stat {address}", run(env, "shards", "stat", address, "--json").stdout, expected)
        same("shards verify", run(env, "shards", "verify", braces, "--json").stdout, expected)
        head = [run(env, "shards", "head", address, "-n", "50").stdout for address in ("s3://shards/gz", str(work / "gz"))]
        same("shards head (gzip)", head[0], head[1])

        for where in (str(work / "shuffled"), "s3://shards/shuffled"):
            source = str(work / "gz") if where.startswith("/") else "s3://shards/gz"
            run(env, "shards", "repack", source, "--output", where, "--shuffle", "7", "--samples", "70", "--cache", str(work / "cache"), "--quiet")
        same("shards repack", on_store(store, "shuffled"), contents(work / "shuffled"))

        def reinforce(source: str, out: str) -> None:
            run(env, "reinforce", "embeddings", "--input", source, "--output", out, "--teacher", args.teacher, "-k", "2", "--quiet")

        reinforce(str(work / "in"), str(work / "reinforced"))
        reinforce("s3://shards/in/info.json", "s3://shards/reinforced")
        same("reinforce embeddings", on_store(store, "reinforced"), contents(work / "reinforced"))
        found = run(env, "reinforce", "verify", "--input", "s3://shards/reinforced", "--teacher", args.teacher, "-n", "20", "--json")
        print("reinforce verify:", found.stdout.strip())

        for where in (str(work / "joined"), "s3://shards/joined"):
            halves = (str(work / "in"), str(work / "reinforced")) if where.startswith("/") else ("s3://shards/in", "s3://shards/reinforced")
            run(env, "shards", "join", *halves, "--output", where, "--cache", str(work / "cache"), "--quiet")
        same("shards join", on_store(store, "joined"), contents(work / "joined"))

        def train(source: str, out: str) -> list[float]:
            variant = args.teacher.partition("=")[2]
            recipe = work / "recipe.toml"
            recipe.write_text(f'[model]\nvariant = "{variant}"\n[data]\nshards = ["{source}"]\ncache = "{work / "cache"}"\n[run]\nout = "{work / out}"\nbatch = 8\nsteps = 4\n')
            run(env, "train", str(recipe), "--quiet")
            log = [json.loads(line) for line in (work / out / "log.jsonl").read_text().splitlines()]
            return [line["loss"] for line in log if "loss" in line]

        same("train", train("s3://shards/in", "remote"), train(str(work / "in"), "local"))

        web = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(work)))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        plain = f"http://127.0.0.1:{web.server_port}/in/{{00000000..{len(shards) - 1:08}}}.tar"
        same("shards stat over HTTP without ranges", run(env, "shards", "stat", plain, "--json").stdout, expected)
        ranges = braces.replace("s3://", store.url() + "/")
        same("shards stat over HTTP with ranges", run(env, "shards", "stat", ranges, "--json").stdout, expected)

        print("requests:", ", ".join(f"{kind} {count}" for kind, count in sorted(store.counts.items())))
        refused(env, "no such shard", "s3://shards/in/00009999.tar", "s3://shards/in/00009999.tar", "there is no")
        refused(env, "no such bucket", "s3://nowhere/0.tar", "s3://nowhere/0.tar", "no bucket `nowhere`")
        refused(env, "no such folder", "s3://shards/nowhere", "s3://shards/nowhere", "there are no shards")
        bare = {key: value for key, value in env.items() if "ACCESS_KEY" not in key}
        refused(bare, "no credentials", "s3://shards/in/00000000.tar", "s3://shards/in/00000000.tar", "AWS_ACCESS_KEY_ID")
        tls = {key: value for key, value in env.items() if key != "AWS_ALLOW_HTTP"}
        refused(tls, "no TLS", "s3://shards/in/00000000.tar", "s3://shards/in/00000000.tar", "AWS_ALLOW_HTTP")
        refused(env | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no server", "s3://shards/in/00000000.tar", "s3://shards/in/00000000.tar")
        refused(env, "folder over HTTP", f"http://127.0.0.1:{web.server_port}/in", "name the files")
        refused(env, "unknown scheme", "ftp://host/0.tar", "ftp://host/0.tar", "s3://")
    store.stop()
    for problem in PROBLEMS:
        print("FAIL", problem)
    return 1 if PROBLEMS else 0


if __name__ == "__main__":
    sys.exit(main())
