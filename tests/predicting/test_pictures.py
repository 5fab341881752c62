"""What counts as a picture, and that its pixels are those that a validation reads."""

import numpy as np
import pytest
import torch
from PIL import Image

from sparsity.base.errors import InputError
from sparsity.data.images import read_image
from sparsity.predicting.pictures import as_pictures, is_one

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def images() -> dict[str, Image.Image]:
    plain = Image.fromarray(RGB)
    alpha = plain.convert("RGBA")
    alpha.putalpha(Image.fromarray(RGB[:, :, 0]))
    return {
        "RGB": plain,
        "grey": plain.convert("L"),
        "alpha": alpha,
        "grey with alpha": plain.convert("LA"),
        "palette": plain.convert("P"),
        "black and white": plain.convert("1"),
        "16 bits": Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257),
    }


@pytest.mark.parametrize("kind", images())
def test_pil_images_are_what_validation_reads_of_their_files(tmp_path, kind):
    image = images()[kind]
    image.save(tmp_path / "a.png")
    (ours,) = as_pictures(image)
    assert np.array_equal(ours.read(), read_image(tmp_path / "a.png"))
    (stored,) = as_pictures(Image.open(tmp_path / "a.png"))
    assert np.array_equal(stored.read(), ours.read())


def test_exif_turns_a_picture_as_in_validation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    ours, stored = as_pictures([Image.open(tmp_path / "a.png"), tmp_path / "a.png"])
    assert ours.read().shape == (20, 12, 3)
    assert np.array_equal(ours.read(), stored.read())


def test_arrays_with_other_channels():
    grey, one, four = RGB[:, :, 0], RGB[:, :, :1], np.dstack([RGB, RGB[:, :, 0]])
    assert np.array_equal(as_pictures(grey)[0].read(), np.dstack([grey] * 3))
    assert np.array_equal(as_pictures(one)[0].read(), np.dstack([grey] * 3))
    assert np.array_equal(as_pictures(four)[0].read(), RGB)
    assert np.array_equal(as_pictures(four, "bgr")[0].read(), RGB[:, :, ::-1])
    assert is_one(grey)
    assert not is_one(np.stack([RGB, RGB]))


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    Image.fromarray(np.repeat(RGB, 20, 0)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    for left in (len(whole) // 2, len(whole) - 40):
        (tmp_path / "a.jpg").write_bytes(whole[:left])
        with pytest.raises(InputError, match=r"a\.jpg: (image file is truncated|OpenCV cannot decode it)"):
            as_pictures(tmp_path / "a.jpg")[0].read()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(None, "`images` is of type NoneType; a path, a uint8 array", id="nothing"),
        pytest.param(3, "`images` is of type int", id="a number"),
        pytest.param([3], "`images` holds a int", id="a list of numbers"),
        pytest.param(RGB / 255, r"an array of float64 \[12, 20, 3\]; uint8", id="floats"),
        pytest.param(RGB.transpose(2, 0, 1), r"array of uint8 \[3, 12, 20\]", id="channels first"),
        pytest.param(RGB[:0], r"array of uint8 \[0, 20, 3\]", id="empty"),
        pytest.param(torch.zeros(4, 5), r"a tensor \[4, 5\]; \[3, height, width\]", id="a flat tensor"),
        pytest.param(torch.zeros(12, 20, 3), r"a tensor \[12, 20, 3\]", id="channels last"),
        pytest.param(torch.full((3, 4, 5), 255.0), "of float32 from 255 to 255; uint8, or", id="0 to 255"),
        pytest.param(torch.full((3, 4, 5), torch.nan), "of float32 from nan", id="not a number"),
        pytest.param(torch.zeros(3, 4, 5, dtype=torch.int64), "a tensor of int64; uint8, or", id="integers"),
        pytest.param(Image.fromarray(RGB[:, :, 0]).convert("F"), "floats", id="a PIL image of floats"),
    ],
)
def test_what_is_no_picture(given, words):
    with pytest.raises(InputError, match=words):
        as_pictures(given)


def test_paths_that_cannot_be_read(tmp_path):
    for path, words in (
        (tmp_path / "no.jpg", "cannot be read"),
        (tmp_path, "a folder; the path of a picture"),
    ):
        with pytest.raises(InputError, match=words):
            as_pictures(path)[0].read()
    with pytest.raises(InputError, match="`channels` is 'gbr'; 'rgb' or 'bgr' is expected"):
        as_pictures(RGB, "gbr")
