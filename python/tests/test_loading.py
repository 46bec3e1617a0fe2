"""Loading: options, open_clip's names, what goes wrong."""

from __future__ import annotations

import socket

import mobileclip
import numpy as np
import pytest
from conftest import GOLDEN, PHOTOS

PHOTO = PHOTOS / "coffee_444.jpg"


def test_what_a_model_says_of_itself(tiny, model):
    assert model.name == "tiny"
    assert model.path == str(tiny.checkpoint)
    assert (model.embed_dim, model.context_length, model.threads, model.precision) == (16, 77, 2, "f32")
    assert model.instruction_set in ("avx512", "avx2", "scalar")
    assert model.is_precision_native
    assert abs(model.logit_scale - 100) < 1e-3
    assert len(model.fingerprint()) == 16
    assert str(tiny.checkpoint) in repr(model)
    assert repr(model.preprocess) == "mobileclip.Preprocess(size=(64, 64), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))"


def test_precisions(tiny, model):
    exact = model.encode_image(PHOTO)
    for precision in ("bf16", "int8"):
        other = tiny.load(precision=precision)
        assert other.precision == precision
        assert other.fingerprint() != model.fingerprint()
        got = other.encode_image(PHOTO)
        assert not np.array_equal(got, exact)
        assert (got @ exact.T).item() > 0.97
    with pytest.raises(ValueError, match="`fp16` is no precision; there are f32, bf16, int8"):
        tiny.load(precision="fp16")


def test_open_clips_names(tiny, model):
    expected = model.encode_image(PHOTO, normalize=False)
    options = {"pretrained": str(tiny.checkpoint), "variant": tiny.variant}
    other, _, preprocess = mobileclip.create_model_and_transforms("MobileCLIP2-S0", image_mean=(0, 0, 0), **options)
    assert np.array_equal(other.encode_image(preprocess(PHOTO)[None], normalize=False), expected)
    other, preprocess = mobileclip.create_model_from_pretrained(
        str(tiny.checkpoint), precision="bf16", variant=tiny.variant
    )
    assert other.precision == "bf16"
    with pytest.raises(ValueError, match="image_mean"):
        mobileclip.create_model_and_transforms("MobileCLIP2-S0", image_mean=(0.5, 0.5, 0.5), **options)
    with pytest.raises(ValueError, match="cuda"):
        mobileclip.create_model_and_transforms("MobileCLIP2-S0", device="cuda", **options)
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE"):
        mobileclip.create_model_and_transforms("MobileCLIP2-S0", pretrained="dfndr2b")
    with pytest.raises(ValueError, match="laion"):
        mobileclip.create_model_and_transforms("ViT-B-16", pretrained="nothing_of_this_name")


def test_the_name_says_the_variant_of_a_bare_file(tiny):
    with pytest.raises(ValueError, match="tiny.safetensors"):
        mobileclip.create_model_and_transforms("MobileCLIP2-S0", pretrained=str(tiny.checkpoint))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("./gone.pt", FileNotFoundError, "./gone.pt"),
        ("models/gone.pt", FileNotFoundError, "no file or folder of this name is here either"),
        ("MobileCLIP2-S5", FileNotFoundError, "did you mean"),
        ("MobileCLIP2-S1", ValueError, "none was published"),
        ("MobileCLIP2-S0", FileNotFoundError, "HF_HUB_OFFLINE"),
        ("ViT-B-16", ValueError, "needs one of the tags"),
        (GOLDEN / "checkpoints/broken_st_half.safetensors", ValueError, "broken_st_half.safetensors"),
        (GOLDEN / "checkpoints/evil_global_os_reduce.pt", ValueError, "evil_global_os_reduce.pt"),
        (GOLDEN / "checkpoints/broken_zip_half.pt", ValueError, "broken_zip_half.pt"),
        (GOLDEN, ValueError, "golden"),
    ],
)
def test_what_cannot_be_loaded(name, error, words):
    with pytest.raises(error) as raised:
        mobileclip.load(name)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_variants_that_are_none(tiny, tmp_path):
    with pytest.raises(ValueError, match="no variant is named `S0`"):
        mobileclip.load(tiny.checkpoint, variant="S0")
    with pytest.raises(FileNotFoundError, match="gone.toml"):
        mobileclip.load(tiny.checkpoint, variant="gone.toml")
    (tmp_path / "bad.toml").write_text("name = 3")
    with pytest.raises(ValueError, match=r"bad\.toml: not a variant"):
        mobileclip.load(tiny.checkpoint, variant=tmp_path / "bad.toml")


def test_a_hub_that_is_not_there(monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(ConnectionError, match="the hub cannot be reached"):
            mobileclip.load("MobileCLIP2-S0", quiet=True)


def test_names():
    names = mobileclip.list_models()
    assert "MobileCLIP2-S0" in names
    assert len(set(names)) == len(names)
