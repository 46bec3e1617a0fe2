"""Tokens, `encode_text`, labels."""

from __future__ import annotations

import json
import pickle

import mobileclip
import numpy as np
import pytest
from conftest import GOLDEN, PHOTOS, write_checkpoint

TEXTS = ["a cat", "A dog on a beach", "", "caf&eacute; \N{CAT FACE}", "word " * 200]


def test_tokens_are_open_clips():
    tokenizer = mobileclip.Tokenizer()
    rows = [json.loads(line) for line in (GOLDEN / "tokens/rows.jsonl").read_text().splitlines()]
    # Letters that have a lower case only in a newer Unicode than the reference's.
    rows = [row for row in rows if row["kind"] != "unicode15"]
    assert len(rows) > 1000
    ids = tokenizer(row["text"] for row in rows)
    assert ids.dtype == np.int64
    for row, got in zip(rows, ids, strict=True):
        expected = row["ids"] + [0] * (77 - len(row["ids"]))
        assert got.tolist() == expected, row["text"]


def test_tokenizer_by_name():
    assert mobileclip.get_tokenizer("MobileCLIP2-S0")("a cat").shape == (1, 77)
    assert mobileclip.get_tokenizer("coca_ViT-L-14").context_length == 76
    assert mobileclip.get_tokenizer("MobileCLIP2-S0", context_length=9)(["a"] * 2).shape == (2, 9)
    assert mobileclip.Tokenizer()(["a"], 5).tolist() == [[49406, 320, 49407, 0, 0]]
    with pytest.raises(FileNotFoundError, match="MobileCLIP2-S9"):
        mobileclip.get_tokenizer("MobileCLIP2-S9")


def test_every_models_tokenizer_is_known():
    for name in mobileclip.list_models():
        assert mobileclip.get_tokenizer(name).context_length in (76, 77, 128, 256), name


def test_models_with_a_cut_vocabulary(tmp_path):
    write_checkpoint("MobileCLIP-nano", tmp_path / "nano.safetensors")
    model = mobileclip.load(tmp_path / "nano.safetensors", variant="MobileCLIP-nano")
    ids = model.tokenizer(["a pomegranate"])
    assert ids.shape == (1, model.context_length)
    assert ids.max() == model.tokenizer.vocabulary_size - 1 == 8191
    assert np.array_equal(model.encode_text(ids), model.encode_text("a pomegranate"))
    tokenizer = mobileclip.get_tokenizer("MobileCLIP-nano")
    for other in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        assert np.array_equal(other(["a pomegranate"]), ids)


def test_encode_and_decode():
    tokenizer = mobileclip.Tokenizer()
    ids = tokenizer.encode("It's 5 °C")
    assert tokenizer.decode(ids) == "<start_of_text>it 's 5 ° c <end_of_text>"
    assert tokenizer.decode(tokenizer("a cat")[0][:4]) == "<start_of_text>a cat <end_of_text>"


def test_features_are_the_programs(tiny, model, tmp_path):
    tiny.run("embed", "--text", *TEXTS, "--out", tmp_path / "texts.npy")
    expected = np.load(tmp_path / "texts.npy")
    ids = model.tokenizer(TEXTS)
    for form in (TEXTS, tuple(TEXTS), (text for text in TEXTS), ids, ids.astype(np.int32), ids.astype(np.uint16)):
        assert np.array_equal(model.encode_text(form), expected), type(form)
    for text, ids, row in zip(TEXTS, ids, expected, strict=True):
        assert np.array_equal(model.encode_text(text), row[None])
        assert np.array_equal(model.encode_text(ids), row[None])
    raw = model.encode_text(TEXTS, normalize=False)
    assert np.allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), expected, atol=1e-6)
    assert not np.allclose(raw, expected, atol=1e-3)
    assert model.encode_text([]).shape == (0, model.embed_dim)


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (np.zeros((2, 76), int), ValueError, "76"),
        (np.full((1, 77), 49408), ValueError, "49408"),
        (np.full((1, 77), -1), ValueError, "-1"),
        (np.zeros((1, 77)), ValueError, "float64"),
        (np.zeros((1, 1, 77), int), ValueError, "[1, 1, 77]"),
        ([1, 2], TypeError, "int"),
        (7, TypeError, "int"),
        ("\ud800", ValueError, "surrogate"),
    ],
)
def test_what_is_no_text(model, texts, error, words):
    with pytest.raises(error) as raised:
        model.encode_text(texts)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_classify_as_the_program_does(tiny, model):
    photos = [PHOTOS / "coffee_444.jpg", PHOTOS / "china.jpg"]
    names, templates = ["cup", "a dog", "cat"], ["a photo of a {}", "{} drawn by a child"]
    frames = [word for template in templates for word in ("--template", template)]
    expected = tiny.json("classify", *photos, "--labels", ",".join(names), "--no-exif", *frames)
    labels = model.labels(names, templates)
    assert len(labels) == 3
    assert labels.embeddings.shape == (3, model.embed_dim)
    for got in (model.classify(photos, names, templates), model.classify(photos, labels)):
        for scores, line in zip(got, expected, strict=True):
            assert [score.label for score in scores] == [score["label"] for score in line["scores"]]
            for score, other in zip(scores, line["scores"], strict=True):
                assert np.float32(score.probability) == np.float32(other["probability"])
                assert np.float32(score.logit) == np.float32(other["logit"])
    one = model.classify(photos[0], names, templates, top=1)
    assert one == got[0][:1]
    assert isinstance(one[0], mobileclip.Score)
    # Other words after these: nothing is remembered that should not be.
    assert {score.label for score in model.classify(photos[0], ["x", "y"])} == {"x", "y"}
    assert model.classify(photos[0], ["x", "y"]) != model.classify(photos[0], ["x", "y"], "a {}")


def test_labels_that_cannot_be(model):
    with pytest.raises(ValueError, match="no labels"):
        model.labels([])
    with pytest.raises(ValueError, match="no {} for the label"):
        model.labels(["cat"], "a photo")
    with pytest.raises(ValueError, match="no templates"):
        model.labels(["cat"], [])


def test_the_logits_are_the_scaled_cosines(model):
    photo = PHOTOS / "china.jpg"
    images, texts, scale = model(photo, ["a photo of a cat", "a photo of a dog"])
    logits = (scale * images @ texts.T)[0]
    scores = {score.label: score.logit for score in model.classify(photo, ["cat", "dog"])}
    assert np.allclose(logits, [scores["cat"], scores["dog"]], rtol=1e-5)
