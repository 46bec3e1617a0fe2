"""CLIP's tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from . import _native


class Tokenizer:
    """Texts to token ids, equal to ``open_clip.get_tokenizer``'s (cleaning by ftfy's and HTML's rules included).

    >>> tokenizer = Tokenizer()
    >>> tokenizer(["a cat", "a dog"]).shape
    (2, 77)
    >>> tokenizer.decode(tokenizer.encode("a cat"))
    '<start_of_text>a cat <end_of_text>'
    """

    def __init__(self, context_length: int = 77, vocabulary_size: int = 49408) -> None:
        """``vocabulary_size`` is less than CLIP's for models that were trained with its first merges alone."""
        self.context_length = context_length
        self._native = _native.Tokenizer(vocabulary_size)

    @property
    def vocabulary_size(self) -> int:
        """Entries of the vocabulary; ids are smaller."""
        return self._native.vocabulary_size

    def __call__(self, texts: str | Iterable[str], context_length: int | None = None) -> npt.NDArray[np.int64]:
        """Rows of ``context_length`` ids, int64 ``[n, context_length]``: a start mark, the text, an end mark, zeros. A text
        that is too long is cut and keeps its end mark."""
        rows = [texts] if isinstance(texts, str) else list(texts)
        width = self.context_length if context_length is None else context_length
        ids = np.empty((len(rows), width), np.int64)
        self._native.tokenize(rows, width, ids)
        return ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, between its marks."""
        return self._native.encode(text)

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """The text that ids stand for, marks as ``<start_of_text>`` and ``<end_of_text>``."""
        return self._native.decode([int(i) for i in ids])

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[int, int]]:
        return Tokenizer, (self.context_length, self.vocabulary_size)

    def __repr__(self) -> str:
        return f"mobileclip.Tokenizer(context_length={self.context_length}, vocabulary_size={self.vocabulary_size})"
