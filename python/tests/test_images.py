"""`encode_image` against the program and against itself in other forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image, ImageOps

FILES = sorted(path for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png", ".webp"})[:9]
PHOTO = PHOTOS / "coffee_444.jpg"


@pytest.mark.parametrize(("arguments", "normalize"), [((), True), (("--raw",), False)])
def test_features_are_the_programs(tiny, model, tmp_path, arguments, normalize):
    tiny.run("embed", *FILES, "--no-exif", "--out", tmp_path / "photos.npy", *arguments)
    expected = np.load(tmp_path / "photos.npy")
    got = model.encode_image(FILES, normalize=normalize)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


def test_every_form_of_a_picture_gives_the_same_bits(model):
    expected = model.encode_image(PHOTO)
    assert expected.shape == (1, model.embed_dim)
    file = PHOTO.read_bytes()
    pil = Image.open(PHOTO)
    array = np.asarray(pil)
    assert array.shape[0] != array.shape[1]
    prepared = model.preprocess(PHOTO)
    assert prepared.shape == (3, *model.preprocess.size)
    forms = [str(PHOTO), file, bytearray(file), memoryview(file), pil, array, np.asfortranarray(array), prepared]
    for form in forms:
        assert np.array_equal(model.encode_image(form), expected), type(form)
        assert np.array_equal(model.encode_image([form]), expected), type(form)
        assert np.array_equal(model.encode_image(form, False), model.encode_image(PHOTO, False)), type(form)
    for form in forms[:-1]:
        assert np.array_equal(model.preprocess(form), prepared), type(form)
    assert np.array_equal(model.encode_image(forms), np.repeat(expected, len(forms), axis=0))


def test_arrays_of_several_pictures(model):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (11, 40, 30, 3), np.uint8)
    one_by_one = np.concatenate([model.encode_image(picture) for picture in pictures])
    assert np.array_equal(model.encode_image(pictures), one_by_one)
    assert np.array_equal(model.encode_image(picture for picture in pictures), one_by_one)
    prepared = np.stack([model.preprocess(picture) for picture in pictures])
    assert np.array_equal(model.encode_image(prepared), one_by_one)
    # Not one block of memory: mirrored, and every other picture.
    assert np.array_equal(model.encode_image(pictures[::2, :, ::-1]), model.encode_image(pictures[::2, :, ::-1].copy()))
    assert not np.array_equal(model.encode_image(pictures[:, :, ::-1]), one_by_one)


def test_the_threads_do_not_matter(tiny, model):
    pictures = FILES * 3
    assert np.array_equal(tiny.load(threads=1).encode_image(pictures), model.encode_image(pictures))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_modes_are_converted_as_pillow_does(model, mode):
    pil = Image.open(PHOTO).convert(mode)
    rgb = np.asarray(pil.convert("RGB"))
    assert np.array_equal(model.encode_image(pil), model.encode_image(rgb))
    file = io.BytesIO()
    pil.save(file, "PNG")
    assert np.array_equal(model.encode_image(file.getvalue()), model.encode_image(rgb))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif(tiny, model, orientation):
    file = PHOTOS / f"exif_{orientation}.jpg"
    pil = Image.open(file)
    assert np.array_equal(model.encode_image(file), model.encode_image(pil))
    assert np.array_equal(tiny.load(exif=True).encode_image(file), model.encode_image(ImageOps.exif_transpose(pil)))


def test_nothing_gives_no_rows(model):
    assert model.encode_image([]).shape == (0, model.embed_dim)
    assert model.encode_image(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, model.embed_dim)


def array(shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        ("no/such.jpg", FileNotFoundError, "no/such.jpg: cannot read"),
        (PHOTOS, IsADirectoryError, "photos: cannot read"),
        (b"nothing", ValueError, "not an image"),
        (b"", ValueError, "empty"),
        (array((4, 5)), ValueError, "uint8 [4, 5]"),
        (array((4, 5, 4)), ValueError, "[height, width, 3]"),
        (array((4, 0, 3)), ValueError, "0 x 4 pixels"),
        (array((4, 5, 3), float), ValueError, "float64 [4, 5, 3]"),
        (array((3, 5, 5), np.float32), ValueError, "75 values"),
        (array((2, 1, 4, 5, 3)), ValueError, "[2, 1, 4, 5, 3]"),
        (7, TypeError, "int"),
        (None, TypeError, "NoneType"),
        ([7], TypeError, "int"),
        (["a.jpg", ["b.jpg"]], TypeError, "list"),
    ],
)
def test_what_is_no_picture(model, picture, error, words):
    with pytest.raises(error) as raised:
        model.encode_image(picture)
    message = str(raised.value)
    assert words in message
    assert "\n" not in message


def test_errors_say_which_of_the_list(model):
    good = PHOTO.read_bytes()
    with pytest.raises(ValueError, match="picture 19: .*empty"):
        model.encode_image([good] * 19 + [b""])
    with pytest.raises(FileNotFoundError, match=r"^gone\.jpg: "):
        model.encode_image([good, "gone.jpg"])


def test_too_many_pixels(tiny):
    with pytest.raises(ValueError, match="exceed the limit"):
        tiny.load(max_megapixels=1).encode_image(big_png())


def big_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2000, 501)).save(file, "PNG")
    return file.getvalue()


def test_image_size(tiny):
    for size in (96, (96, 96)):
        assert tiny.load(image_size=size).preprocess(PHOTO).shape == (3, 96, 96)
