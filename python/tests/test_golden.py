"""A full-size MobileCLIP2-S0 with formula weights against open_clip's numbers, in double precision."""

from __future__ import annotations

import json

import mobileclip
import numpy as np
import pytest
from conftest import GOLDEN, write_checkpoint
from PIL import Image


def tensors(path) -> dict[str, np.ndarray]:
    """The f32 tensors of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry["dtype"] == "F32"
    }


@pytest.fixture(scope="module")
def s0(tmp_path_factory):
    path = tmp_path_factory.mktemp("s0") / "s0.safetensors"
    write_checkpoint("MobileCLIP2-S0", path)
    model, _, _ = mobileclip.create_model_and_transforms("MobileCLIP2-S0", pretrained=str(path))
    yield model
    path.unlink()


def off_by(got: np.ndarray, expected: np.ndarray) -> float:
    return np.max(np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1))


def test_photos_and_texts(s0):
    golden = json.loads((GOLDEN / "models/photos.json").read_text())
    expected = tensors(GOLDEN / "models/photos.safetensors")
    case = next(case for case in golden["models"] if case["model"] == "MobileCLIP2-S0")
    files = [GOLDEN / "images_small" / photo["file"] for photo in golden["photos"]]
    for photos in (files, [Image.open(file) for file in files]):
        features = s0.encode_image(photos, normalize=False)
        assert off_by(features, expected["MobileCLIP2-S0.image_features"]) < 2e-5
    scores = s0.classify(files, case["labels"], templates="{}")
    for line, probabilities in zip(scores, case["probabilities"], strict=True):
        got = {score.label: score.probability for score in line}
        assert np.allclose([got[label] for label in case["labels"]], probabilities, atol=1e-4)
    rows = np.zeros((4, 77), int)
    for row, ids in zip(rows, case["token_rows_without_padding"], strict=True):
        row[: len(ids)] = ids
    assert np.array_equal(s0.tokenizer(case["labels"]), rows)
    assert np.array_equal(s0.encode_text(rows), s0.encode_text(case["labels"]))


def test_the_goldens_texts(s0):
    golden = json.loads((GOLDEN / "models/MobileCLIP2-S0.json").read_text())
    expected = tensors(GOLDEN / "models/MobileCLIP2-S0.safetensors")["text_features"]
    rows = np.array(golden["inputs"]["token_rows"])
    assert off_by(s0.encode_text(rows, normalize=False), expected) < 2e-5
