"""The installed wheel beside the program of the same sources: see `../check`, which builds both.

MOBILECLIP_BINARIES is the folder of `mobileclip` and `examples/formula_checkpoint`; `../target/debug` if not set.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import mobileclip

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden"
PHOTOS = GOLDEN / "images/photos"
BINARIES = Path(os.environ.get("MOBILECLIP_BINARIES", ROOT / "target/debug"))
VARIANTS = ROOT / "crates/cli/tests/data"


class Tiny:
    """A small model made by formula, its variant file, and the program with both."""

    def __init__(self, folder: Path, variant: str) -> None:
        self.variant = VARIANTS / f"{variant}.toml"
        self.checkpoint = folder / f"{variant}.safetensors"
        self.folder = folder
        write_checkpoint(self.variant, self.checkpoint)

    def load(self, **options) -> mobileclip.Model:
        return mobileclip.load(self.checkpoint, variant=self.variant, **options)

    def run(self, *arguments: object) -> str:
        """What the program prints; photos are read as Python does it, not turned."""
        return self.run_plain(*arguments, "--model", self.checkpoint, "--variant", self.variant)

    def run_plain(self, *arguments: object) -> str:
        """The same without a model."""
        command = [BINARIES / "mobileclip", *arguments]
        environment = {**os.environ, "MOBILECLIP_CACHE": str(self.folder / "cache")}
        done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: object) -> list[dict]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]


def write_checkpoint(variant: str | Path, path: Path) -> None:
    subprocess.run([BINARIES / "examples/formula_checkpoint", str(variant), str(path)], check=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("tiny"), "tiny")


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("captioner"), "tiny_coca")


@pytest.fixture(scope="session")
def model(tiny: Tiny) -> mobileclip.Model:
    return tiny.load(threads=2)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
