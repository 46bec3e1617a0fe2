"""What can be given as a picture or a text, and in which form the native half takes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, Union

import numpy as np
import numpy.typing as npt

#: A picture: the path of a file, a file's bytes, a PIL image, a uint8 array ``[height, width, 3]`` (RGB), or what
#: ``model.preprocess`` gives: a float32 array ``[3, height, width]``.
Picture = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, npt.NDArray[Any], Any]

#: One picture, an array of several (with one axis more in front), or any iterable of pictures.
Pictures = Union[Picture, Iterable[Picture]]

#: A text, several, or token ids ``[n, context]``.
Texts = Union[str, Iterable[str], npt.NDArray[np.integer[Any]]]

T = TypeVar("T")


def pictures(given: Pictures) -> tuple[Iterator[Picture], bool]:
    """The pictures one by one, and whether it is one that was given, not a list of one."""
    if _is_one(given):
        return iter((given,)), True
    if _is_array(given):
        array = np.asarray(given)
        if array.ndim != 4:
            raise ValueError(f"pictures in an array of shape {list(array.shape)}; {_EXPECTED}, or several of them")
        return iter(array), False
    if not isinstance(given, Iterable):
        raise TypeError(f"a {type(given).__name__} is no picture: {_EXPECTED}, a path, bytes, or a PIL image")
    return iter(given), False


def _is_one(given: Any) -> bool:
    if isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview)) or _is_pil(given):
        return True
    return _is_array(given) and np.asarray(given).ndim < 4


def _is_pil(given: object) -> bool:
    return hasattr(given, "convert") and hasattr(given, "tobytes") and hasattr(given, "mode")


def _is_array(given: object) -> bool:
    return hasattr(given, "__array__") or hasattr(given, "__array_interface__")


_EXPECTED = "expected uint8 [height, width, 3] or preprocessed float32 [3, height, width]"


def native(picture: Any) -> Any:
    """A picture as the native half takes it: a path, bytes, (width, height, RGB bytes), or preprocessed numbers."""
    if isinstance(picture, (str, os.PathLike)):
        return os.fspath(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    if _is_pil(picture):
        rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
        return (*rgb.size, rgb.tobytes())
    if not _is_array(picture):
        raise TypeError(f"a {type(picture).__name__} is no picture: {_EXPECTED}, a path, bytes, or a PIL image")
    array = np.asarray(picture)
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[2] == 3:
        return (array.shape[1], array.shape[0], np.ascontiguousarray(array))
    if array.ndim == 3 and array.dtype == np.float32 and array.shape[0] == 3:
        return np.ascontiguousarray(array)
    raise ValueError(f"a picture as {array.dtype} {list(array.shape)}: {_EXPECTED}")


def chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order."""
    while chunk := list(islice(items, size)):
        yield chunk
