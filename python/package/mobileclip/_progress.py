"""What a download tells a person."""

from __future__ import annotations

import sys
from types import TracebackType

_MEGABYTE = 1_000_000


class Download:
    """Lines on the standard error, and a count of megabytes where that is a terminal."""

    def __init__(self, quiet: bool) -> None:
        # Where there is no standard error (a program without a console), nothing can be said.
        self._out = None if quiet else sys.stderr
        self._is_counting = False

    def say(self, line: str) -> None:
        if self._out is not None:
            self._end()
            print(f"mobileclip: {line}", file=self._out, flush=True)

    def count(self, done: int, total: int | None) -> None:
        if self._out is None or not self._out.isatty():
            return
        of = "" if total is None else f" of {total / _MEGABYTE:.0f}"
        self._out.write(f"\r{done / _MEGABYTE:.0f}{of} MB")
        self._out.flush()
        self._is_counting = True

    def _end(self) -> None:
        if self._is_counting and self._out is not None:
            print(file=self._out)
            self._is_counting = False

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
