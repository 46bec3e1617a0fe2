"""`caption` against the program."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PHOTOS

FILES = [PHOTOS / "china.jpg", PHOTOS / "coffee_444.jpg"]


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, ()),
        ({"samples": 3, "seed": 5, "temperature": 1.5}, ("--samples", 3, "--seed", 5, "--temperature", 1.5)),
        ({"method": "top-k", "top_k": 7, "whole": True}, ("--method", "top-k", "--top-k", 7, "--whole")),
        ({"method": "greedy", "max_ids": 9, "whole": True}, ("--method", "greedy", "--max-ids", 9, "--whole")),
        ({"method": "beam", "beams": 3, "beginning": "a cat"}, ("--method", "beam", "--beams", 3, "--beginning", "a cat")),
    ],
)
def test_captions_are_the_programs(captioner, options, arguments):
    model = captioner.load(threads=2)
    expected = [line["captions"] for line in captioner.json("caption", *FILES, "--no-exif", *arguments)]
    assert model.caption(FILES, **options) == expected
    named = {**options, "names": [file.name for file in FILES]}
    assert model.caption([file.read_bytes() for file in FILES], **named) == expected


def test_one_picture_gives_a_list_of_one(captioner):
    model = captioner.load()
    assert model.caption(str(FILES[0])) == model.caption(FILES)[:1]
    assert model.caption([]) == []


def test_what_writes_no_captions(model, captioner):
    with pytest.raises(ValueError, match="captions"):
        model.caption(FILES)
    with pytest.raises(ValueError, match="`best` is no method; there are top-p"):
        captioner.load().caption(FILES, method="best")
    with pytest.raises(ValueError, match="at least"):
        captioner.load().caption(FILES, max_ids=3)
    with pytest.raises(TypeError, match="ndarray|array"):
        captioner.load().caption(np.zeros((3, 32, 32), np.float32))
    with pytest.raises(ValueError, match="picture 1: "):
        captioner.load().caption([FILES[0], b""])
