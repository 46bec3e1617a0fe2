"""A loaded model."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from . import _native
from ._inputs import Picture, Pictures, Texts, chunks, native, pictures
from ._progress import Download
from ._tokenizer import Tokenizer

#: The template when none is given.
DEFAULT_TEMPLATE = "a photo of a {}"

#: Items of a list that are computed between two looks at what else happens (Ctrl-C), for each thread.
_CHUNK = 4

Features = npt.NDArray[np.float32]


class Score(NamedTuple):
    """How well a label fits a picture."""

    label: str
    #: Softmax of the logits over all labels, 0 to 1.
    probability: float
    #: ``logit_scale`` times the cosine.
    logit: float


def load(
    name_or_path: str | os.PathLike[str] = "MobileCLIP2-S0",
    *,
    precision: str = "f32",
    threads: int | None = None,
    variant: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    exif: bool = False,
    fast_decode: bool = False,
    max_megapixels: int | None = None,
    quiet: bool = False,
) -> Model:
    """Loads a model.

    Args:
        name_or_path: a name of :func:`list_models` or ``hf-hub:OWNER/NAME`` (looked up in the Hugging Face hub's cache, and
            loaded into it if it is not there), a model folder, a ``.pt``, ``.bin`` or ``.safetensors`` file, or a fused file
            that ``mobileclip convert`` wrote.
        precision: what the towers multiply: ``"f32"``, ``"bf16"`` or ``"int8"``. Embeddings of different precisions are
            near each other, not equal.
        threads: threads that work on one call; as many as the processor has if not given. Results are the same bits for
            any number.
        variant: which variant the weights are, where they fit several; or a TOML file that describes one.
        image_size: height and width (or one number for both) of the images that the tower sees, if not those it was
            trained on.
        exif: whether files are turned as their EXIF orientation says. open_clip and PIL do not, the program ``mobileclip``
            does.
        fast_decode: decodes large JPEGs at a half, a quarter or an eighth of their size: quicker, embeddings are a
            little off.
        max_megapixels: larger pictures are refused; 179 if not given.
        quiet: says nothing of a download on the standard error.

    Raises:
        FileNotFoundError: there is no such file, and no such name.
        ConnectionError: the hub cannot be reached.
        ValueError: the file is damaged, ambiguous or of another family.
    """
    name = os.fspath(name_or_path)
    with Download(quiet) as download:
        path = _native.locate(name, download.say, download.count)
    engine = _native.Engine.open(
        path,
        precision,
        0 if threads is None else threads,
        None if variant is None else os.fspath(variant),
        (image_size, image_size) if isinstance(image_size, int) else image_size,
        exif,
        fast_decode,
        None if max_megapixels is None else max_megapixels * 1_000_000,
    )
    again = functools.partial(
        load,
        os.path.abspath(name) if os.path.exists(name) else name,
        precision=precision,
        threads=threads,
        variant=variant,
        image_size=image_size,
        exif=exif,
        fast_decode=fast_decode,
        max_megapixels=max_megapixels,
        quiet=quiet,
    )
    return Model(engine, again)


class Labels:
    """Labels that were embedded by a model; made by :meth:`Model.labels`."""

    def __init__(self, names: Sequence[str], embedded: _native.Labels, dimension: int) -> None:
        self.names = tuple(names)
        self._native = embedded
        self._dimension = dimension

    @property
    def embeddings(self) -> Features:
        """Their embeddings, float32 ``[labels, dimension]``, L2-normalised."""
        out = np.empty((len(self.names), self._dimension), np.float32)
        self._native.embeddings(out)
        return out

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"mobileclip.Labels({list(self.names)})"


class Preprocess:
    """What a picture goes through before the image tower: resize, crop, mean and deviation, with Pillow's and torchvision's
    bytes. Called with one picture, it gives float32 ``[3, height, width]``."""

    def __init__(self, engine: _native.Engine) -> None:
        self._engine = engine
        #: Height and width of the result.
        self.size: tuple[int, int] = engine.image_size
        self.mean: tuple[float, ...] = tuple(engine.image_mean)
        self.std: tuple[float, ...] = tuple(engine.image_std)

    def __call__(self, picture: Picture) -> Features:
        out = np.empty((3, *self.size), np.float32)
        self._engine.prepare(native(picture), out)
        return out

    def __repr__(self) -> str:
        return f"mobileclip.Preprocess(size={self.size}, mean={self.mean}, std={self.std})"


class Model:
    """An image tower and a text tower that give embeddings in one space; made by :func:`load`.

    Safe to use from several threads. It can be pickled (its weights are not: they are loaded again where it arrives), so that
    it can be sent to other processes. After a fork, a model of more than one thread must be loaded again; it says so.
    """

    def __init__(self, engine: _native.Engine, again: Callable[[], Model]) -> None:
        self._engine = engine
        self._again = again
        self._last: tuple[tuple[tuple[str, ...], tuple[str, ...]], Labels] | None = None
        #: What a picture goes through before the image tower.
        self.preprocess = Preprocess(engine)
        #: The tokenizer, with this model's context length and vocabulary.
        self.tokenizer = Tokenizer(engine.context_length, engine.vocabulary_size)

    @property
    def name(self) -> str:
        """The variant's name, ``"MobileCLIP2-S0"``."""
        return self._engine.name

    @property
    def path(self) -> str:
        """The file of the weights."""
        return self._engine.path

    @property
    def embed_dim(self) -> int:
        """Width of the embeddings."""
        return self._engine.embed_dim

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by; it is ``exp`` of the checkpoint's number already."""
        return self._engine.logit_scale

    @property
    def context_length(self) -> int:
        """Token ids that the text tower takes."""
        return self._engine.context_length

    @property
    def precision(self) -> str:
        """What the towers multiply: ``"f32"``, ``"bf16"`` or ``"int8"``."""
        return self._engine.precision

    @property
    def is_precision_native(self) -> bool:
        """Whether the processor has instructions for it. Where not, others give the same results, at about the speed of f32."""
        return self._engine.is_precision_native

    @property
    def threads(self) -> int:
        """Threads that work on one call."""
        return self._engine.threads

    @property
    def instruction_set(self) -> str:
        """``"avx512"``, ``"avx2"`` or ``"scalar"``."""
        return self._engine.instruction_set

    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell whether stored embeddings are this model's (weights, preprocessing, precision)."""
        return self._engine.fingerprint()

    def encode_image(self, images: Pictures, normalize: bool = True) -> Features:
        """Embeddings of pictures, float32 ``[n, embed_dim]``, in their order.

        Args:
            images: a picture or an iterable of pictures. A picture is the path of a file (``str`` or ``Path``), a file's
                bytes, a PIL image, an RGB array uint8 ``[height, width, 3]``, or what :attr:`preprocess` gives, float32
                ``[3, height, width]``; several of equal size may be one array with an axis more. Long iterables are read
                piece by piece. (A ``str`` is always a path; alpha is dropped as PIL's ``convert("RGB")`` drops it.)
            normalize: whether rows are divided by their length, so that a product of two is their cosine. (The default of
                open_clip's method of this name is not to.)

        Raises:
            FileNotFoundError, PermissionError: of a path.
            ValueError: a picture that cannot be read, an array of another form. The message names the file, or the place in
                the list.
        """
        items, is_one = pictures(images)
        return self._rows(map(native, items), normalize, self._engine.image_features, None if is_one else 0)

    def encode_text(self, texts: Texts, normalize: bool = True) -> Features:
        """Embeddings of texts, float32 ``[n, embed_dim]``, in their order.

        Args:
            texts: a text, an iterable of texts, or token ids as :attr:`tokenizer` gives them, integers ``[n, context]``.
            normalize: as for :meth:`encode_image`.
        """
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, (list, tuple)) and hasattr(texts, "__array__"):
            return self._encode_tokens(np.asarray(texts), normalize)

        def features(chunk: list[str], out: Features, *, normalize: bool, first: int | None) -> None:
            self._engine.text_features(chunk, out, normalize=normalize)

        return self._rows(iter(texts), normalize, features, None)

    def _encode_tokens(self, ids: npt.NDArray[Any], normalize: bool) -> Features:
        if ids.ndim not in (1, 2) or ids.dtype.kind not in "iu":
            raise ValueError(f"token ids as {ids.dtype} {list(ids.shape)}: expected integers [n, context]")
        rows = np.ascontiguousarray(np.atleast_2d(ids), np.int64)

        def features(chunk: list[Any], out: Features, *, normalize: bool, first: int | None) -> None:
            self._engine.token_features(np.stack(chunk), rows.shape[1], out, normalize=normalize)

        return self._rows(iter(rows), normalize, features, None)

    def _rows(
        self, items: Iterator[Any], normalize: bool, features: Callable[..., None], first: int | None
    ) -> Features:
        """``features`` of all items in pieces: between two of them, Python sees to signals."""
        pieces = []
        for chunk in chunks(items, _CHUNK * self.threads):
            piece = np.empty((len(chunk), self.embed_dim), np.float32)
            features(chunk, piece, normalize=normalize, first=first)
            first = None if first is None else first + len(chunk)
            pieces.append(piece)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, self.embed_dim), np.float32)

    def labels(self, names: Iterable[str], templates: str | Iterable[str] = DEFAULT_TEMPLATE) -> Labels:
        """Embeds labels for :meth:`classify`.

        Args:
            names: the labels.
            templates: what each is put into in the place of ``{}``. The embeddings of several are averaged, which usually
                helps.
        """
        words, frames = _words(names), _words(templates)
        return Labels(words, self._engine.embed_labels(words, frames), self.embed_dim)

    @overload
    def classify(
        self,
        images: str | os.PathLike[str] | bytes,
        labels: Labels | Iterable[str],
        templates: str | Iterable[str] = ...,
        top: int | None = ...,
    ) -> list[Score]: ...
    @overload
    def classify(
        self,
        images: list[Any] | tuple[Any, ...] | Iterator[Any],
        labels: Labels | Iterable[str],
        templates: str | Iterable[str] = ...,
        top: int | None = ...,
    ) -> list[list[Score]]: ...
    @overload
    def classify(
        self,
        images: Pictures,
        labels: Labels | Iterable[str],
        templates: str | Iterable[str] = ...,
        top: int | None = ...,
    ) -> Any: ...
    def classify(
        self,
        images: Pictures,
        labels: Labels | Iterable[str],
        templates: str | Iterable[str] = DEFAULT_TEMPLATE,
        top: int | None = None,
    ) -> Any:
        """Zero-shot classification: which label fits best.

        Args:
            images: as for :meth:`encode_image`.
            labels: the labels' texts, or what :meth:`labels` made of them. The last ones are remembered: asking for the same
                again costs no text tower.
            templates: as for :meth:`labels`.
            top: so many of the best, else all.

        Returns:
            Of one picture a list of :class:`Score`, best first; of several a list of such lists.
        """
        if not isinstance(labels, Labels):
            labels = self._remembered(labels, templates)
        items, is_one = pictures(images)
        embeddings = self.encode_image(next(items) if is_one else items)
        scored = [
            [Score(*score) for score in self._engine.scores(labels._native, row)[:top]] for row in embeddings
        ]
        return scored[0] if is_one else scored

    def _remembered(self, names: Iterable[str], templates: str | Iterable[str]) -> Labels:
        words, frames = _words(names), _words(templates)
        last = self._last
        if last is None or last[0] != (words, frames):
            last = ((words, frames), self.labels(words, frames))
            self._last = last
        return last[1]

    def caption(
        self,
        images: Pictures,
        samples: int = 1,
        *,
        method: str = "top-p",
        top_p: float = 0.9,
        top_k: int = 50,
        beams: int = 2,
        max_ids: int = 30,
        min_ids: int = 5,
        temperature: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        beginning: str = "",
        whole: bool = False,
        names: Sequence[str] | None = None,
    ) -> list[list[str]]:
        """Captions of pictures, ``samples`` of each; only CoCa models write them.

        Args:
            images: as for :meth:`encode_image`, but not preprocessed.
            samples: captions of each picture.
            method: ``"top-p"`` (drawn from the likeliest words that make up ``top_p`` of the probability), ``"top-k"``,
                ``"greedy"`` or ``"beam"``.
            max_ids, min_ids: token ids of a caption with its marks, at most and at least.
            seed: of what is by chance, together with the picture's name and the sample's number.
            beginning: what captions begin with.
            whole: everything that the model wrote, not only the first sentence.
            names: the pictures' names; a file's own name (without its folders) if not given, else ``""``.

        Raises:
            ValueError: the model writes no captions, or the settings contradict each other.
        """
        wishes = {
            "method": method,
            "top_p": top_p,
            "top_k": top_k,
            "beams": beams,
            "samples": samples,
            "max_ids": max_ids,
            "min_ids": min_ids,
            "temperature": temperature,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
            "beginning": beginning,
            "whole": whole,
        }
        items, is_one = pictures(images)
        given_names = None if names is None else iter(names)
        captions: list[list[str]] = []
        for chunk in chunks(items, _CHUNK * max(self.threads, 4)):
            called = [_file_name(picture) if given_names is None else next(given_names, "") for picture in chunk]
            first = None if is_one else len(captions)
            captions += self._engine.captions([native(picture) for picture in chunk], called, wishes, first=first)
        return captions

    def __call__(self, images: Pictures, texts: Texts) -> tuple[Features, Features, float]:
        """Normalised embeddings of pictures and of texts, and the scale, as open_clip's models return them."""
        return self.encode_image(images), self.encode_text(texts), self.logit_scale

    def __reduce__(self) -> tuple[Callable[[], Model], tuple[()]]:
        return self._again, ()

    def __repr__(self) -> str:
        return (
            f"<mobileclip.Model {self.name} from {self.path}: {self.precision}, {self.threads} threads, {self.instruction_set}>"
        )


def _words(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _file_name(picture: Picture) -> str:
    return os.path.basename(os.fspath(picture)) if isinstance(picture, (str, os.PathLike)) else ""
