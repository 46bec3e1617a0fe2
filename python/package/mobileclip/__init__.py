"""MobileCLIP and MobileCLIP2 image-text models, fast on a CPU, exact to open_clip, without PyTorch.

    >>> import mobileclip
    >>> model = mobileclip.load("MobileCLIP2-S0")
    >>> model.classify("photo.jpg", ["a cat", "a dog"])[0].label
    'a cat'
    >>> images = model.encode_image(["a.jpg", "b.jpg"])   # float32, [2, 512]
    >>> texts = model.encode_text("a dog on a beach")     # float32, [1, 512]
    >>> images @ texts.T                                  # cosines

Everything that takes long lets other threads of Python run.
"""

from ._model import Labels, Model, Score, load
from ._native import list_models
from ._open_clip import create_model_and_transforms, create_model_from_pretrained, get_tokenizer
from ._tokenizer import Tokenizer

__all__ = [
    "Labels",
    "Model",
    "Score",
    "Tokenizer",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "get_tokenizer",
    "list_models",
    "load",
]
