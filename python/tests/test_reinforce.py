"""Reinforced shards: in this process, and on a local Ray cluster, against the program's."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from conftest import PHOTOS

from mobileclip.reinforce import Embeddings, Output, reinforce

NAMES = ["china.jpg", "coffee_lossy.webp", "chelsea_rgb.png", "flower.jpg"]


def write_shard(path: Path, samples: int, first: int) -> None:
    with tarfile.open(path, "w") as tar:
        for i in range(first, first + samples):
            photo = PHOTOS / NAMES[i % len(NAMES)]
            members = {photo.suffix: photo.read_bytes(), ".txt": f"photo {i}".encode()}
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{i:05}{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Six shards that take some seconds each."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(6):
        write_shard(folder / f"{i:05}.tar", 40, 100 * i)
    return folder


@pytest.fixture(scope="module")
def stage(tiny) -> Embeddings:
    return Embeddings([(tiny.checkpoint, tiny.variant)], augmentations=8, seed=3)


@pytest.fixture(scope="module")
def expected(tiny, shards, tmp_path_factory) -> dict[str, bytes]:
    """The shards as the program makes them in one process."""
    folder = tmp_path_factory.mktemp("expected") / "out"
    teacher = f"{tiny.checkpoint}={tiny.variant}"
    tiny.run_plain("reinforce", "embeddings", "--input", shards, "--output", folder, "--teacher", teacher, "-k", 8, "--seed", 3)
    return made(folder)


def made(folder: Path) -> dict[str, bytes]:
    """The shards of a folder, and its configuration; nothing half done may lie there."""
    assert not [path.name for path in folder.iterdir() if ".partial" in path.name]
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".tar" or path.name == "config.json"}


def manifest(folder: Path) -> list[str]:
    return [json.loads(line)["shard"] for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_in_this_process(stage, shards, expected, tmp_path):
    told = []
    report = reinforce(shards, tmp_path / "out", stage, watch=lambda *progress: told.append(progress))
    assert made(tmp_path / "out") == expected
    assert (report["shards"], report["shards_made"], report["samples"], report["made"]) == (6, 6, 240, 240)
    assert told[-1][0] <= 240
    assert told[-1][2] == sum(path.stat().st_size for path in shards.iterdir())
    assert manifest(tmp_path / "out") == sorted(name for name in expected if name.endswith(".tar"))
    again = reinforce(shards, tmp_path / "out", stage)
    assert (again["shards_found"], again["shards_made"]) == (6, 0)


def test_what_watches_may_end_it(stage, shards, expected, tmp_path):
    class Enough(Exception):
        pass

    def watch(samples, bytes_read, total_bytes):
        if samples > 0:
            raise Enough

    with pytest.raises(Enough):
        reinforce(shards, tmp_path, stage, watch=watch)
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".tar"]) < 6
    reinforce(shards, tmp_path, stage)
    assert made(tmp_path) == expected


def test_mistakes(tiny, stage, shards, tmp_path):
    for options, words in [
        ({"dtype": "f16"}, "dtype `f16`: there are f32, bf16"),
        ({"pillow": "9"}, "pillow `9`"),
        ({"captions": "text"}, "neither txt nor json:FIELD"),
        ({"augment": {"nothing": {}}}, "nothing"),
        ({"augmentations": 0}, "no augmentations"),
    ]:
        with pytest.raises(ValueError, match=words):
            reinforce(shards, tmp_path / "out", Embeddings(stage.teachers, **options))
    with pytest.raises(ValueError, match="no teacher"):
        reinforce(shards, tmp_path / "out", Embeddings([]))
    with pytest.raises(ValueError, match="there is no"):
        reinforce(shards / "gone.tar", tmp_path / "out", stage)
    assert not (tmp_path / "out").exists()
    reinforce(shards / "00000.tar", tmp_path / "out", stage)
    with pytest.raises(ValueError, match="another `seed`: 3 there, 0 now"):
        reinforce(shards / "00000.tar", tmp_path / "out", Embeddings(stage.teachers, augmentations=8))


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


class Killer:
    """Kills actors, each in the middle of a shard that it has begun."""

    def __init__(self, folder: Path, victims: set[str]) -> None:
        self.folder, self.victims, self.killed = folder, victims, []
        self.threads: list[threading.Thread] = []
        self.events: list[dict] = []

    def __call__(self, event: dict) -> None:
        self.events.append(event)
        name = os.path.basename(event.get("shard", ""))
        if event["event"] == "begun" and name in self.victims:
            self.victims.remove(name)
            self.threads.append(threading.Thread(target=self.kill, args=(name, event["pid"])))
            self.threads[-1].start()

    def kill(self, name: str, pid: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            # It has begun to write, and is not finished.
            if any(path.stat().st_size > 100_000 for path in self.folder.glob(f".{name}.partial-*")):
                os.kill(pid, signal.SIGKILL)
                self.killed.append(name)
                return
            time.sleep(0.005)


def test_actors_that_are_killed_change_nothing(cluster, stage, shards, expected, tmp_path):
    from mobileclip import ray as module

    killer = Killer(tmp_path, {"00000.tar", "00001.tar", "00004.tar"})
    report = module.reinforce(shards, tmp_path, stage, min_actors=1, max_actors=2, tell=killer)
    for thread in killer.threads:
        thread.join()
    assert sorted(killer.killed) == ["00000.tar", "00001.tar", "00004.tar"]
    assert report["actors_lost"] == 3
    assert sum(event["event"] == "lost" for event in killer.events) == 3
    assert made(tmp_path) == expected
    assert manifest(tmp_path) == sorted(name for name in expected if name.endswith(".tar"))
    assert (report["shards_made"], report["samples"], report["made"]) == (6, 240, 240)
    # More than one actor has worked.
    assert len({event["pid"] for event in killer.events if event["event"] == "made"}) > 1


def test_what_is_wrong_comes_through(cluster, stage, shards, tmp_path):
    from mobileclip import ray as module

    with pytest.raises(FileNotFoundError, match="gone.pt"):
        module.reinforce(shards, tmp_path, Embeddings([str(tmp_path / "gone.pt")]))
    with pytest.raises(ValueError, match="3 to 2 actors"):
        module.reinforce(shards, tmp_path, stage, min_actors=3, max_actors=2)
    (tmp_path / "twice").mkdir()
    write_shard(tmp_path / "twice/00000.tar", 1, 0)
    with pytest.raises(ValueError, match="would get one name"):
        module.reinforce([shards / "00000.tar", tmp_path / "twice/00000.tar"], tmp_path / "out", stage)
    # Actors for which the cluster has no room.
    with pytest.raises(TimeoutError, match="fewer than 1 actors were ready after 1 s"):
        module.reinforce(shards, tmp_path / "out", stage, resources={"nowhere": 1}, wait_for_min_actors_s=1)


def test_fewer_actors_than_asked_for_go_on(cluster, stage, shards, expected, tmp_path):
    from mobileclip import ray as module

    module.reinforce(shards, tmp_path, stage, min_actors=3)
    assert made(tmp_path) == expected


def test_one_shard_that_fails_leaves_the_others(cluster, stage, shards, expected, tmp_path):
    from mobileclip import ray as module

    (tmp_path / "in").mkdir()
    for name in ("00001.tar", "00002.tar"):
        (tmp_path / "in" / name).symlink_to(shards / name)
    reinforce(tmp_path / "in/00001.tar", tmp_path / "out", stage)
    # Another input under the name of a shard that is there.
    (tmp_path / "in/00001.tar").unlink()
    write_shard(tmp_path / "in/00001.tar", 1, 0)
    with pytest.raises(RuntimeError, match=r"1 of 2 shards could not be made: .*00001\.tar"):
        module.reinforce(tmp_path / "in", tmp_path / "out", stage)
    assert made(tmp_path / "out")["00002.tar"] == expected["00002.tar"]


def test_the_published_flags(cluster, tiny, shards, expected, tmp_path, capsys, monkeypatch):
    from mobileclip import ray as module

    lengths = {f"{i:05}.tar": 40 for i in (3, 1)}
    (shards / "info.json").write_text(json.dumps({"lengths": lengths}))
    monkeypatch.chdir(tmp_path)
    flags = ["--datagen-type", "embedding", "--input", str(shards / "info.json"), "--output", "out", "--num-samples", "8"]
    flags += ["--model-name", str(tiny.variant), "--pretrained", str(tiny.checkpoint), "--seed", "3", "--batch-size", "256"]
    assert module.main(flags) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["shards_made"], report["actors_lost"]) == (2, 0)
    assert made(tmp_path / "out") == {
        "00000000.tar": expected["00003.tar"],
        "00000001.tar": expected["00001.tar"],
        "config.json": expected["config.json"],
    }
    assert module.main([*flags, "--output-shard-name-format", "orig", "--output", "orig"]) == 0
    assert set(made(tmp_path / "orig")) == {"00001.tar", "00003.tar", "config.json"}
    capsys.readouterr()
    assert module.main([*flags, "--bfloat16"]) == 2
    assert "another `" in capsys.readouterr().err
    for more in (["--datagen-type", "caption"], ["--tag-suffix", "_x"], ["--aug-config", "{"], ["--output-format", "jsonl"]):
        assert module.main([*flags, *more]) == 2
        assert capsys.readouterr().err.startswith("mobileclip.ray: --")


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "mobileclip.ray", raising=False)
    with pytest.raises(ImportError, match=r"mobileclip\[ray\]"):
        import mobileclip.ray  # noqa: F401
