"""Reinforcing where the disk is full, nothing may be written or read, or a folder is not there: one line that names the file, nothing half done, and the
same command makes the same shards once the fault is mended.

Must be started as root on Linux: it mounts a small tmpfs, and runs the command as the user `nobody`, for whom permissions hold.

    cargo build --release -p mobileclip-cli
    sudo python3 compat/faults.py SHARD TEACHER[=VARIANT]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534


def drop():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shard", help="one shard of pictures and captions, small")
    parser.add_argument("teacher", help="a checkpoint, =VARIANT after it where need be")
    args = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o755)
        binary = shutil.copy(os.environ.get("MOBILECLIP_BINARY", str(ROOT / "target/release/mobileclip")), work / "mobileclip")
        teacher = [Path(shutil.copy(part, work)) for part in args.teacher.split("=")]
        shard = Path(shutil.copy(args.shard, work))
        for file in [*teacher, shard]:
            file.chmod(0o444)

        def run(out: Path, as_nobody: bool, source: Path = shard):
            command = [binary, "reinforce", "embeddings", "--input", str(source), "--output", str(out), "-k", "2", "--quiet",
                       "--teacher", "=".join(map(str, teacher))]
            return subprocess.run(command, capture_output=True, text=True, preexec_fn=drop if as_nobody else None)

        def fails(what: str, ran, words: list[str], out: Path):
            lines = ran.stderr.strip().splitlines()
            left = [path.name for path in out.rglob("*") if ".tar" in path.name and not path.name.endswith(".json")] if out.is_dir() else []
            if ran.returncode != 2 or len(lines) != 1 or not all(word in lines[0] for word in words) or left:
                problems.append(f"{what}: status {ran.returncode}, {lines}, left {left}")
            print(f"{what}: {lines[-1] if lines else 'no complaint'}")

        expected = work / "expected"
        assert run(expected, False).returncode == 0
        made = next(expected.glob("*.tar")).read_bytes()

        def mended(what: str, out: Path, as_nobody: bool):
            ran = run(out, as_nobody)
            shards = list(out.glob("*.tar"))
            if ran.returncode != 0 or len(shards) != 1 or shards[0].read_bytes() != made:
                problems.append(f"{what}: after the mend: status {ran.returncode}, {ran.stderr}")

        out = work / "locked"
        out.mkdir()
        fails("a folder that may not be written", run(out, True), [str(out), "Permission denied"], out)
        os.chown(out, NOBODY, NOBODY)
        mended("a folder that may not be written", out, True)

        for file in out.rglob("*.tar"):
            file.unlink()
        out.chmod(0o555)
        fails("a folder that may no longer be written", run(out, True), [str(out), "Permission denied"], out)
        out.chmod(0o755)
        mended("a folder that may no longer be written", out, True)

        shard.chmod(0o000)
        unread = work / "unread"
        unread.mkdir()
        os.chown(unread, NOBODY, NOBODY)
        fails("a shard that may not be read", run(unread, True), [shard.name, "Permission denied"], unread)
        shard.chmod(0o444)

        fails("a shard that is not there", run(work / "none", False, work / "no" / "0.tar"), ["0.tar"], work / "none")
        fails("a folder below a file", run(shard / "out", False), [shard.name], shard / "out")

        small = work / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(16, len(made) // 2048)}k", "tmpfs", str(small)], check=True)
        try:
            fails("a full disk", run(small / "out", False), ["No space left on device"], small / "out")
            subprocess.run(["mount", "-o", f"remount,size={len(made) // 1024 + 1024}k", str(small)], check=True)
            mended("a full disk", small / "out", False)
        finally:
            subprocess.run(["umount", str(small)], check=True)
    for problem in problems:
        print("FAIL", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
