"""Letterboxing against YOLOv5's formula, worked out by hand."""

import cv2
import numpy as np
import pytest

from sparsity.data.letterbox import Placement, batch_shapes, letterbox, place


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def boxed(image: np.ndarray, imgsz: int, shape: tuple[int, int]) -> np.ndarray:
    out = np.full((*shape, 3), 7, np.uint8)
    letterbox(image, imgsz, out)
    return out


@pytest.mark.parametrize(
    ("original", "imgsz", "shape", "resized", "left", "top"),
    [
        pytest.param((480, 640), 640, (512, 672), (480, 640), 16, 16, id="as large as asked"),
        pytest.param((427, 640), 640, (448, 672), (427, 640), 16, 10.5, id="odd height keeps its half"),
        pytest.param((375, 500), 640, (512, 672), (480, 640), 16, 16, id="enlarged"),
        pytest.param((333, 500), 640, (448, 672), (427, 640), 16, 10.5, id="426.24 rounds up to 427"),
        pytest.param((1000, 667), 640, (672, 448), (640, 427), 10.5, 16, id="426.88 rounds up to 427"),
        pytest.param((640, 1280), 640, (352, 672), (320, 640), 16, 16, id="halved"),
        pytest.param((100, 100), 640, (672, 672), (640, 640), 16, 16, id="square"),
        pytest.param((20, 2000), 640, (64, 672), (7, 640), 16, 28.5, id="6.4 rounds up to 7"),
        pytest.param((400, 640), 640, (320, 672), (320, 512), 80, 0, id="shrunk to the height"),
        pytest.param((640, 401), 640, (672, 320), (511, 320), 0, 80.5, id="shrunk to the width, to nearest"),
        pytest.param((480, 640), 640, (240, 160), (120, 160), 0, 60, id="shrunk to the smaller"),
    ],
)
def test_place(original, imgsz, shape, resized, left, top):
    assert place(original, imgsz, shape) == Placement(original, resized, left, top)


def test_an_image_of_the_right_size_is_copied_and_the_rest_is_grey():
    image = noise(48, 64)
    out = boxed(image, 64, (64, 96))
    np.testing.assert_array_equal(out[8:56, 16:80], image)
    out[8:56, 16:80] = 114
    assert (out == 114).all()


@pytest.mark.parametrize(
    ("image", "shape", "top", "left"),
    [
        pytest.param((47, 64), (64, 64), 8, 0, id="17 rows: 8 above and 9 below"),
        pytest.param((64, 47), (64, 64), 0, 8, id="17 columns: 8 left and 9 right"),
        pytest.param((64, 64), (65, 65), 0, 0, id="one row and column: below and right"),
        pytest.param((61, 64), (64, 64), 1, 0, id="3 rows: 1 above and 2 below"),
    ],
)
def test_an_odd_padding_has_its_larger_half_below_and_right(image, shape, top, left):
    pixels = noise(*image)
    out = boxed(pixels, 64, shape)
    height, width = image
    np.testing.assert_array_equal(out[top : top + height, left : left + width], pixels)
    assert (out == 114).all(2).sum() == shape[0] * shape[1] - height * width


@pytest.mark.parametrize(
    ("original", "method", "other"),
    [
        pytest.param((150, 200), cv2.INTER_AREA, cv2.INTER_LINEAR, id="shrinking averages areas"),
        pytest.param((45, 50), cv2.INTER_LINEAR, cv2.INTER_AREA, id="enlarging is linear"),
    ],
)
def test_the_first_resize(original, method, other):
    image = noise(*original)
    height, width = place(original, 64, (64, 64)).resized
    out = boxed(image, 64, (height, width))
    np.testing.assert_array_equal(out, cv2.resize(image, (width, height), interpolation=method))
    assert (out != cv2.resize(image, (width, height), interpolation=other)).any()


def test_shrinking_into_a_smaller_shape_is_a_second_linear_resize():
    image = noise(96, 128)
    once = cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA)
    out = boxed(image, 64, (24, 64))
    np.testing.assert_array_equal(out[:, 16:48], cv2.resize(once, (32, 24), interpolation=cv2.INTER_LINEAR))
    assert (out[:, :16] == 114).all()
    assert (out[:, 48:] == 114).all()


def test_boxes_to_the_letterbox_and_back_by_hand():
    placement = place((375, 500), 640, (512, 672))
    inside = placement.to_letterbox_xyxy(np.array([[0.5, 0.5, 0.5, 0.2]]))
    np.testing.assert_allclose(inside, [[176, 208, 496, 304]])
    np.testing.assert_allclose(placement.to_image_xyxy(inside), [[125, 150, 375, 225]])


@pytest.mark.parametrize(
    ("original", "shape"),
    [
        pytest.param((480, 640), (512, 672), id="as large as asked"),
        pytest.param((333, 500), (448, 672), id="rounded up, odd padding"),
        pytest.param((2000, 1500), (672, 512), id="shrunk, tall"),
        pytest.param((480, 640), (240, 320), id="shrunk twice"),
    ],
)
def test_boxes_come_back(original, shape):
    """Exactly in height; in width, up to the rounding of the two sides, as YOLOv5 has one gain."""
    boxes = np.array([[0.5, 0.5, 1, 1], [0.3, 0.6, 0.2, 0.1], [0.9, 0.1, 0.1, 0.2]], np.float32)
    height, width = original
    placement = place(original, 640, shape)
    corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    shown = placement.resized[1] / placement.gain
    expected = corners * np.array([shown, height, shown, height], np.float32)
    back = placement.to_image_xyxy(placement.to_letterbox_xyxy(boxes))
    assert back.dtype == np.float32
    assert shown == pytest.approx(width, rel=1 / min(placement.resized))
    np.testing.assert_allclose(back, expected.clip(0, [width, height] * 2), atol=1e-3)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([-50, -50, 700, 900], [0, 0, 640, 480], id="larger than the letterbox"),
        pytest.param([0, 0, 15, 15], [0, 0, 0, 0], id="in the padding above"),
        pytest.param([660, 500, 672, 512], [640, 480, 640, 480], id="in the padding below"),
        pytest.param([0, 26, 116, 512], [0, 10, 100, 480], id="over two edges"),
    ],
)
def test_boxes_are_clipped_to_the_image(box, expected):
    placement = place((480, 640), 640, (512, 672))
    np.testing.assert_allclose(placement.to_image_xyxy(np.array([box], np.float32)), [expected])


def test_no_boxes_stay_no_boxes():
    placement = place((480, 640), 640, (512, 672))
    none = np.zeros((0, 4), np.float32)
    assert placement.to_image_xyxy(none).shape == (0, 4)
    assert placement.to_letterbox_xyxy(none).shape == (0, 4)


@pytest.mark.parametrize(
    ("ratios", "batch_size", "imgsz", "stride", "expected"),
    [
        pytest.param([], 4, 640, 32, [], id="no image"),
        pytest.param([0.5, 0.75], 2, 640, 32, [(512, 672)], id="all wide: by the highest, 15.5 up to 16"),
        pytest.param([0.5, 0.5], 2, 640, 32, [(352, 672)], id="all wide: 10.5 up to 11"),
        pytest.param([4 / 3, 2], 2, 640, 32, [(672, 512)], id="all tall: by the widest"),
        pytest.param([0.5, 2], 2, 640, 32, [(672, 672)], id="mixed"),
        pytest.param([0.5, 1], 2, 640, 32, [(672, 672)], id="a square among wide ones"),
        pytest.param([1, 2], 2, 640, 32, [(672, 672)], id="a square among tall ones"),
        pytest.param([0.5, 0.75, 2], 2, 640, 32, [(512, 672), (672, 352)], id="a last, short batch"),
        pytest.param([0.5, 0.75], 8, 640, 32, [(512, 672)], id="fewer than a batch"),
        pytest.param([0.5, 0.75], 2, 640, 64, [(512, 704)], id="stride 64"),
        pytest.param([0.7125], 1, 640, 32, [(480, 672)], id="14.75 up to 15"),
        pytest.param([0.725], 1, 640, 32, [(480, 672)], id="exactly 15 stays"),
        pytest.param([0.75], 1, 320, 32, [(256, 352)], id="imgsz 320"),
    ],
)
def test_batch_shapes(ratios, batch_size, imgsz, stride, expected):
    assert batch_shapes(ratios, batch_size, imgsz, stride) == expected
