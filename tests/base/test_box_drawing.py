"""Boxes and labels on pictures of any size."""

import numpy as np
import pytest

from sparsity.base.box_drawing import (
    DrawnBox,
    colour_of,
    contrasting,
    draw_boxes,
    font_of,
    font_size,
    shorten,
)
from sparsity.base.errors import InputError

RED = (255, 0, 0)


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 114, np.uint8)


def changed(image, colour) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the pixels that have a colour."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_a_box_is_where_it_should_be():
    image = draw_boxes(grey(400, 600), [DrawnBox((100, 50, 300, 200), RED)])
    assert image.size == (600, 400)
    assert changed(image, RED) == (100, 50, 300, 200)


@pytest.mark.parametrize(
    ("corners", "why"),
    [
        ((0, 0, 40, 30), "no room above"),
        ((590, 300, 600, 400), "no room at the right"),
        ((0, 380, 600, 400), "at the bottom"),
        ((0, 0, 600, 400), "all of the picture"),
        ((-50, -50, 700, 700), "outside"),
    ],
)
def test_a_label_stays_in_the_picture(corners, why):
    with_label, without = (
        np.asarray(draw_boxes(grey(400, 600), [DrawnBox(corners, RED, label)]))
        for label in ("person 0.87", "")
    )
    text = font_of(font_size((600, 400)))
    ground = (with_label != without).any(2).sum()
    assert ground > 0.8 * text.getlength("person 0.87") * text.size * 0.6, why


def test_labels_of_equal_boxes_do_not_cover_each_other():
    boxes = [DrawnBox((100, 100, 300, 300), colour_of(i), "person") for i in range(3)]
    image = np.asarray(draw_boxes(grey(400, 600), boxes))
    width = font_of(font_size((600, 400))).getlength("person")
    for box in boxes:
        assert (image == box.colour).all(2).sum() > width * 5


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        pytest.param(1, 1, (320, 320), id="one pixel"),
        pytest.param(100, 150, (450, 300), id="small: three times as large"),
        pytest.param(320, 10, (10, 320), id="large enough"),
        pytest.param(2, 1000, (1000, 2), id="no room for a label"),
    ],
)
def test_small_pictures_are_enlarged(height, width, size):
    image = draw_boxes(grey(height, width), [DrawnBox((0, 0, width, height), RED, "person 0.87")])
    assert image.size == size


def test_lines_and_text_grow_with_the_picture():
    sizes = [(640, 480), (4000, 3000)]
    assert [font_size(size) for size in sizes] == [12, 69]
    images = [draw_boxes(grey(h, w), [DrawnBox((w / 4, h / 4, w / 2, h / 2), RED)]) for w, h in sizes]
    lines = [(np.asarray(image) == RED).all(2)[image.height // 3].sum() // 2 for image in images]
    assert lines == [3, 16]


def test_a_given_thickness_is_used():
    image = draw_boxes(grey(400, 600), [DrawnBox((100, 50, 300, 200), RED)], line_thickness=7)
    assert (np.asarray(image) == RED).all(2)[120].sum() == 14
    with pytest.raises(InputError, match="`line_thickness` is 0; a whole number from 1 on is expected"):
        draw_boxes(grey(4, 6), [], line_thickness=0)


@pytest.mark.parametrize("style", ["faint", "dashed"])
def test_other_lines_cover_less(style):
    solid, other = (
        (np.asarray(draw_boxes(grey(400, 600), [DrawnBox((9, 9, 500, 300), RED, "", one)])) == RED)
        .all(2)
        .sum()
        for one in ("solid", style)
    )
    assert 0 < other < 0.7 * solid


def test_a_long_name_is_shortened():
    font = font_of(12)
    short = shorten("a class of a very long name", font, 60)
    assert short.startswith("a class")
    assert short.endswith("\N{HORIZONTAL ELLIPSIS}")
    assert font.getlength(short) <= 60
    assert shorten("person", font, 3) == ""


def test_text_contrasts_with_its_ground():
    assert contrasting((250, 240, 90)) == (0, 0, 0)
    assert contrasting((20, 20, 120)) == (255, 255, 255)
