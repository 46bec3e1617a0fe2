"""open_clip's names, for programs that were written for it."""

from __future__ import annotations

import os
from typing import Any

from . import _native
from ._model import Model, Preprocess, load
from ._tokenizer import Tokenizer

#: open_clip's and torch's names of precisions.
_PRECISIONS = {"fp32": "f32", "float32": "f32", "bfloat16": "bf16"}


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    **options: Any,
) -> tuple[Model, Preprocess]:
    """A model and its preprocessing. ``pretrained`` is one of open_clip's tags or the path of a checkpoint; ``options`` are
    those of :func:`mobileclip.load`. (``image_mean`` and ``image_std`` may be given as to open_clip; they are compared with
    the checkpoint's own, which always count.)

    >>> model, preprocess = create_model_from_pretrained("MobileCLIP2-S0", pretrained="dfndr2b")
    """
    if str(device) != "cpu":
        raise ValueError(f"device {str(device)!r}: models run on the CPU")
    asked = {name: options.pop(name) for name in ("image_mean", "image_std") if name in options}
    options["precision"] = _PRECISIONS.get(precision, precision)
    if pretrained is None or pretrained == "":
        model = load(model_name, **options)
    elif os.path.exists(pretrained) or pretrained.startswith((".", "/")):
        # A checkpoint says itself which variant it is; where it cannot, the name decides.
        model = load(pretrained, **{"variant": model_name, **options})
    else:
        model = load(f"{model_name}:{pretrained}", **options)
    known = {"image_mean": model.preprocess.mean, "image_std": model.preprocess.std}
    for name, values in asked.items():
        if values is not None and any(abs(a - b) > 1e-6 for a, b in zip(values, known[name], strict=True)):
            raise ValueError(f"{name}={tuple(values)}: this checkpoint was trained with {known[name]}, which it gets anyway")
    return model, model.preprocess


def create_model_and_transforms(
    model_name: str,
    pretrained: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    **options: Any,
) -> tuple[Model, Preprocess, Preprocess]:
    """As :func:`create_model_from_pretrained`, with the preprocessing twice, in the places where open_clip returns that of
    training and that of inference. Both are the one of inference here.

    >>> model, _, preprocess = create_model_and_transforms("MobileCLIP2-S0", pretrained="dfndr2b")
    >>> features = model.encode_image(preprocess(image)[None])
    """
    model, preprocess = create_model_from_pretrained(model_name, pretrained, precision, device, **options)
    return model, preprocess, preprocess


def get_tokenizer(model_name: str = "MobileCLIP2-S0", context_length: int | None = None) -> Tokenizer:
    """The tokenizer of a variant or a model's name, with its context length unless another is given."""
    context, vocabulary = _native.tokenizer_facts(model_name)
    return Tokenizer(context if context_length is None else context_length, vocabulary)
