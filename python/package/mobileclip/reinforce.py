"""Shards to reinforced shards, as ``mobileclip reinforce embeddings`` makes them, byte for byte.

>>> from mobileclip.reinforce import Embeddings, reinforce
>>> reinforce("shards/{00000..00019}.tar", "reinforced", Embeddings(["ViT-L-14:openai"], augmentations=10))

:mod:`mobileclip.ray` does the same on a cluster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Union, cast

from . import _native
from ._progress import Download

#: What a run tells now and then: samples written, bytes read, bytes of all inputs.
Watch = Callable[[int, int, int], None]


Teacher = Union[str, "os.PathLike[str]", tuple[Union[str, "os.PathLike[str]"], Union[str, "os.PathLike[str]", None]]]


@dataclass(frozen=True)
class Embeddings:
    """What is made of a picture and its captions; the output depends on this and the samples alone."""

    #: Models in the order of the columns: names, paths, or pairs of one with the variant that it is (a name or a TOML file).
    teachers: Iterable[Teacher]
    #: Augmentations of each picture.
    augmentations: int = 10
    #: Their configuration in the published form; the published one, at the teachers' size, if not given.
    augment: dict[str, Any] | None = None
    #: Seed of the augmentations.
    seed: int = 0
    #: How embeddings are stored: ``"f32"`` or ``"bf16"``.
    dtype: str = "f32"
    #: Where the true captions stand: ``"txt"``, or ``"json:FIELD"``.
    captions: str = "txt"
    #: Which Pillow's resize is followed: ``"13"``, ``"12.2"`` (and 12.3) or ``"older"``.
    pillow: str = "13"
    #: What the teachers multiply: ``"f32"``, ``"bf16"`` or ``"int8"``.
    precision: str = "f32"
    #: Samples without picture or caption, or with broken ones: ``"keep"`` them as they are, or ``"drop"`` them.
    on_bad: str = "keep"

    def __post_init__(self) -> None:
        # Other processes have other working folders.
        teachers = tuple(_absolute(teacher) for teacher in self.teachers)
        object.__setattr__(self, "teachers", teachers)


@dataclass(frozen=True)
class Output:
    """Where shards come to, and how they are packed."""

    #: A folder; it may hold finished shards of the same settings.
    folder: str | os.PathLike[str]
    #: What shards are called: as their ``"input"``, or by their place in the list, ``"count"``.
    names: str = "input"
    #: ``"none"``, ``"gz"`` or ``"zst"``.
    compress: str = "none"


class Reinforcer:
    """Loaded teachers, which make shards of one folder."""

    def __init__(self, stage: Embeddings, output: Output, *, threads: int | None = None, batch: int = 16) -> None:
        wishes = {
            **asdict(stage),
            **asdict(output),
            "output": os.fspath(output.folder),
            "teachers": [_located(*cast(tuple[str, Any], teacher)) for teacher in stage.teachers],
            "augment": None if stage.augment is None else json.dumps(stage.augment),
            "threads": 0 if threads is None else threads,
            "batch": batch,
        }
        self._native = _native.Reinforcer.open(wishes)

    @property
    def widths(self) -> list[int]:
        """The widths of the teachers' embeddings, which lie side by side."""
        return self._native.widths

    def run(self, inputs: Iterable[str], watch: Watch | None = None) -> dict[str, Any]:
        """Makes the shards that are not there yet, writes the manifest, and reports how many of what there were."""
        return self._run(list(inputs), watch, 0, True)

    def shard(self, path: str, number: int = 0, watch: Watch | None = None) -> dict[str, Any]:
        """As :meth:`run` for one shard of a list, number ``number`` in it, without the manifest."""
        return self._run([path], watch, number, False)

    def _run(self, inputs: list[str], watch: Watch | None, first: int, manifest: bool) -> dict[str, Any]:
        report = self._native.run(inputs, watch or _nothing, first=first, manifest=manifest)
        return cast(dict[str, Any], json.loads(report))


def reinforce(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | Output,
    stage: Embeddings,
    *,
    threads: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Sends shards through a stage in this process.

    A shard appears when it is whole, so a rerun after whatever happened makes those that are missing, with the same bytes.

    Args:
        inputs: paths, folders, brace lists (``shards/{00000..00019}.tar``), wildcards.
        output: a folder, or more of it.
        stage: what is made.
        threads: as many as the processor has if not given.
        watch: is called now and then; what it raises ends the run, and leaves the shard at hand to the next.

    Returns:
        Counts: ``shards``, ``shards_made``, ``shards_found``, ``samples``, ``made``, ``kept``, ``dropped``, ``faults`` by cause.
    """
    return Reinforcer(stage, output_of(output), threads=threads).run(expand(inputs), watch)


def expand(inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """The shards that paths, folders, brace lists and wildcards stand for, in their order."""
    patterns = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    return _native.expand_shards([os.fspath(pattern) for pattern in patterns])


def output_of(output: str | os.PathLike[str] | Output) -> Output:
    """A folder as an output with nothing else said."""
    return output if isinstance(output, Output) else Output(os.fspath(output))


def _absolute(teacher: Teacher) -> tuple[str, str | None]:
    """A model and maybe its variant, paths from the root."""
    name, variant = teacher if isinstance(teacher, tuple) else (teacher, None)
    return _path_or_name(name), None if variant is None else _path_or_name(variant)


def _path_or_name(given: str | os.PathLike[str]) -> str:
    return os.path.abspath(given) if os.path.exists(given) else os.fspath(given)


def _located(name: str, variant: str | None) -> tuple[str, str | None]:
    with Download(quiet=False) as download:
        return _native.locate(name, download.say, download.count), variant


def _nothing(samples: int, bytes_read: int, total_bytes: int) -> None:
    pass
