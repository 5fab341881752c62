"""Augmentation: boxes stay where their pixels are, and what is random stays in its bounds."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sparsity.data.augment import (
    NONE,
    Augmentation,
    Sample,
    finish,
    flipped,
    letterboxed,
    mosaic,
    shift_colours,
    transform,
)
from sparsity.data.letterbox import GREY, letterbox

IMGSZ = 96
SHAPES = [(96, 64), (72, 96), (96, 96), (50, 96)]
COLOURLESS = replace(Augmentation(), hue=0, saturation=0, value=0)


def black(shape: tuple[int, int]) -> Sample:
    return Sample(np.zeros((*shape, 3), np.uint8), np.zeros(0, np.int64), np.zeros((0, 4)))


def with_box(shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A black image with a white rectangle of 20 x 20 pixels or more, and its box of class 7."""
    tile = black(shape)
    height, width = rng.integers(20, 26, 2)
    top, left = rng.integers(0, np.array(shape) - 25)
    tile.pixels[top : top + height, left : left + width] = 255
    return Sample(tile.pixels, np.array([7]), np.array([[left, top, left + width, top + height]], float))


def random_pixels(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def boxed(*boxes: tuple[float, ...], shape: tuple[int, int] = (IMGSZ, IMGSZ)) -> Sample:
    table = np.array(boxes, float).reshape(-1, 4)
    return Sample(random_pixels(shape), np.arange(len(table)), table)


def box_of_white(pixels: np.ndarray) -> list[int] | None:
    """The box around what is nearer to white than to grey."""
    ys, xs = np.nonzero(pixels[..., 0] > (255 + GREY) / 2)
    return None if not len(xs) else [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def check_box(sample: Sample) -> bool:
    """Compare the sample's one box with its pixels; whether it has one."""
    whole_area = (25 * 1.5) ** 2
    white = box_of_white(sample.pixels)
    assert ((sample.boxes_xyxy >= 0) & (sample.boxes_xyxy <= IMGSZ)).all()
    if not len(sample.boxes_xyxy):
        sides = (0, 0) if white is None else (white[2] - white[0], white[3] - white[1])
        assert min(sides) <= 3 or (sides[0] - 1) * (sides[1] - 1) <= 0.1 * whole_area
        return False
    assert sample.classes.tolist() == [7]
    np.testing.assert_allclose(sample.boxes_xyxy[0], white, atol=1)
    return True


@pytest.mark.parametrize("place", range(4))
def test_boxes_follow_pixels_through_the_mosaic(place):
    kept = 0
    for seed in range(50):
        rng = np.random.default_rng((place, seed))
        tiles = [black(shape) for shape in SHAPES]
        tiles[place] = with_box(SHAPES[place], rng)
        sample = finish(mosaic(tiles, IMGSZ, rng), IMGSZ, COLOURLESS, rng)
        assert sample.pixels.shape == (IMGSZ, IMGSZ, 3)
        kept += check_box(sample)
    assert 10 < kept < 50


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_follow_pixels_without_mosaic(shape):
    kept = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        sample = letterboxed(with_box(shape, rng), IMGSZ)
        kept += check_box(finish(sample, IMGSZ, COLOURLESS, rng))
    assert kept > 30


@pytest.mark.parametrize("imgsz", [96, 97])
def test_the_mosaic_joins_four_corners_at_a_centre(imgsz):
    levels = (10, 60, 170, 240)
    centres = set()
    for seed in range(30):
        tiles = [black(shape) for shape in SHAPES]
        for tile, level in zip(tiles, levels, strict=True):
            tile.pixels[:] = level
        made = mosaic(tiles, imgsz, np.random.default_rng(seed)).pixels[..., 0]
        assert made.shape == (2 * imgsz, 2 * imgsz)
        assert set(np.unique(made)) <= {*levels, GREY}
        ys, xs = np.nonzero(made == 10)
        y, x = ys.max() + 1, xs.max() + 1
        assert made[y - 1 : y + 1, x - 1 : x + 1].ravel().tolist() == list(levels)
        assert imgsz // 2 <= min(x, y) <= max(x, y) <= 2 * imgsz - imgsz // 2
        centres.add((x, y))
    assert len(centres) > 25


def test_none_is_the_letterbox():
    for shape in SHAPES:
        tile = Sample(random_pixels(shape), np.array([3]), np.array([[2.0, 4.0, 40.0, 30.0]]))
        sample = finish(letterboxed(tile, IMGSZ), IMGSZ, NONE, np.random.default_rng(0))
        expected = np.empty((IMGSZ, IMGSZ, 3), np.uint8)
        letterbox(tile.pixels, IMGSZ, expected)
        np.testing.assert_array_equal(sample.pixels, expected)
        shift = [(IMGSZ - shape[1]) // 2, (IMGSZ - shape[0]) // 2] * 2
        np.testing.assert_array_equal(sample.boxes_xyxy, tile.boxes_xyxy + shift)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((10, 10, 12, 40), (10, 10, 12, 40), id="2 pixels wide"),
        pytest.param((10, 10, 11.9, 40), None, id="narrower"),
        pytest.param((10, 10, 40, 11.9), None, id="lower"),
        pytest.param((-89, 10, 11, 30), (0, 10, 11, 30), id="11 % left"),
        pytest.param((-91, 10, 9, 30), None, id="9 % left"),
        pytest.param((90, 90, 200, 200), None, id="a corner left"),
        pytest.param((-10, -10, 200, 200), (0, 0, 96, 96), id="larger than the sample"),
        pytest.param((-30, 10, -5, 20), None, id="left of it"),
        pytest.param((10, 10, 10, 10), None, id="a point"),
    ],
)
def test_boxes_that_are_hardly_there_are_dropped(box, expected):
    sample = transform(boxed(box, (5, 5, 50, 50)), IMGSZ, NONE, np.random.default_rng(0))
    kept = [] if expected is None else [list(expected)]
    assert sample.boxes_xyxy.tolist() == [*kept, [5, 5, 50, 50]]
    assert sample.classes.tolist() == ([1] if expected is None else [0, 1])


@pytest.mark.parametrize(("length", "kept"), [(200, 1), (202, 0)])
def test_boxes_that_are_too_long_are_dropped(length, kept):
    sample = boxed((10, 10, 10 + length, 12), shape=(300, 300))
    assert len(transform(sample, 300, NONE, np.random.default_rng(0)).classes) == kept


def test_the_mosaic_leaves_boxes_whole():
    """So that what its edges cut off counts as lost."""
    tiles = [boxed((0, 0, *shape[::-1]), shape=shape) for shape in SHAPES]
    lost = 0
    for seed in range(20):
        boxes = mosaic(tiles, IMGSZ, np.random.default_rng(seed)).boxes_xyxy
        assert (boxes[:, 2:] - boxes[:, :2]).tolist() == [list(shape[::-1]) for shape in SHAPES]
        lost += (boxes < 0).any() or (boxes > 2 * IMGSZ).any()
    assert lost > 10


def test_shrinking_leaves_grey_around_and_enlarging_none():
    sample = Sample(np.full((IMGSZ, IMGSZ, 3), 200, np.uint8), np.zeros(0, np.int64), np.zeros((0, 4)))
    grey = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scale = np.random.default_rng(seed).uniform(0.5, 1.5)
        made = transform(sample, IMGSZ, replace(NONE, scale=0.5), rng).pixels
        grey.append((made[0, 0] == GREY).all())
        assert grey[-1] == (scale < 0.99)
    assert 5 < sum(grey) < 25


def test_shifts_stay_within_translate():
    sample = boxed((40, 40, 60, 60))
    augmentation = replace(NONE, translate=0.1)
    rng = np.random.default_rng(0)
    shifts = [
        transform(sample, IMGSZ, augmentation, rng).boxes_xyxy[0] - sample.boxes_xyxy[0] for _ in range(100)
    ]
    assert 0.09 * IMGSZ < np.abs(shifts).max() <= 0.1 * IMGSZ
    assert abs(np.mean(shifts)) < 0.02 * IMGSZ


def test_flip_is_exact():
    sample = boxed((10, 20, 40, 50), (0, 0, 96, 96), (90.5, 1, 96, 90))
    mirrored = flipped(sample)
    np.testing.assert_array_equal(mirrored.pixels, sample.pixels[:, ::-1])
    assert mirrored.boxes_xyxy.tolist() == [[56, 20, 86, 50], [0, 0, 96, 96], [0, 1, 5.5, 90]]
    again = flipped(mirrored)
    np.testing.assert_array_equal(again.pixels, sample.pixels)
    np.testing.assert_array_equal(again.boxes_xyxy, sample.boxes_xyxy)


@pytest.mark.parametrize(("probability", "least", "most"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 200, 200)])
def test_how_often_is_flipped(probability, least, most):
    rng, sample = np.random.default_rng(0), boxed(shape=(16, 16))
    made = [finish(sample, 16, replace(NONE, flip=probability), rng) for _ in range(200)]
    assert least <= sum((one.pixels == sample.pixels[:, ::-1]).all() for one in made) <= most


def test_colours_leave_grey_grey():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    for seed in range(50):
        made = shift_colours(grey, Augmentation(), np.random.default_rng(seed))
        assert (made == made[..., :1]).all()
        assert (np.diff(made[0, :, 0].astype(int)) >= 0).all()


def test_colours_without_gains_are_the_same():
    pixels = random_pixels((32, 32))
    np.testing.assert_array_equal(shift_colours(pixels, COLOURLESS, np.random.default_rng(0)), pixels)


@pytest.mark.parametrize(("name", "channel"), [("hue", 0), ("saturation", 1), ("value", 2)])
def test_each_gain_changes_its_channel(name, channel):
    """Of a colour that has room each way; red lies at hue 0 and stays there."""
    pixels = np.full((1, 1, 3), (40, 100, 160), np.uint8)
    before = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(int)[0, 0]
    seen = []
    for seed in range(50):
        made = shift_colours(pixels, replace(NONE, **{name: 0.4}), np.random.default_rng(seed))
        seen.append(cv2.cvtColor(made, cv2.COLOR_RGB2HSV).astype(int)[0, 0] - before)
    spread = np.ptp(np.array(seen), 0)
    assert spread[channel] > 0.3 * before[channel]
    assert np.delete(spread, channel).max() <= 4


@pytest.mark.parametrize("joined", [True, False])
def test_no_boxes(joined):
    rng = np.random.default_rng(0)
    tiles = [black(shape) for shape in SHAPES]
    sample = mosaic(tiles, IMGSZ, rng) if joined else letterboxed(tiles[0], IMGSZ)
    made = finish(sample, IMGSZ, Augmentation(), rng)
    assert (made.classes.shape, made.boxes_xyxy.shape) == ((0,), (0, 4))


def test_inputs_are_not_written_to():
    tiles = [boxed((5, 5, 30, 30), shape=shape) for shape in SHAPES]
    before = [tile.pixels.copy() for tile in tiles]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        finish(mosaic(tiles, IMGSZ, rng), IMGSZ, Augmentation(), rng)
        finish(letterboxed(tiles[2], IMGSZ), IMGSZ, Augmentation(), rng)
    for tile, pixels in zip(tiles, before, strict=True):
        np.testing.assert_array_equal(tile.pixels, pixels)
        assert tile.boxes_xyxy.tolist() == [[5, 5, 30, 30]]
