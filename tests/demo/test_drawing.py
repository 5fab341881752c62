"""Drawn scenes: the same for a seed, labelled as a person would."""

import numpy as np
import pytest

from sparsity.demo import drawing as module
from sparsity.demo.drawing import CLASSES, LARGEST, MOST, SMALLEST, Scene, Shape, draw_scene, label


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in range(100)]


@pytest.fixture
def plain(monkeypatch):
    """A black ground, one white shape, no camera."""
    monkeypatch.setattr(module, "MOST", 1)
    monkeypatch.setattr(module, "_draw_ground", lambda rng, size: np.zeros((size, size, 3), np.uint8))
    monkeypatch.setattr(module, "_colour_unlike", lambda rng, other: np.full(3, 255, np.float32))
    monkeypatch.setattr(module, "_photograph", lambda rng, pixels: pixels)


def square(left: int, top: int, side: int, number: int = 3) -> Shape:
    return Shape(number, left, top, np.full((side, side), 255, np.uint8))


def shown(shapes: list[Shape], size: int = 100) -> np.ndarray:
    """Which shape each pixel shows, the later ones above."""
    taken = np.zeros((size, size), np.uint8)
    for number, shape in enumerate(shapes, 1):
        place, tile = shape.overlap(size)
        taken[place][shape.mask[tile] > 0] = number
    return taken


@pytest.mark.parametrize("size", [64, 320])
def test_a_seed_gives_one_scene(size):
    one, other, next_one = draw_scene(7, size), draw_scene(7, size), draw_scene(8, size)
    assert one.pixels.shape == (size, size, 3)
    assert one.pixels.dtype == np.uint8
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    assert not np.array_equal(one.pixels, next_one.pixels)


def test_labels_are_of_the_promised_form_and_inside(scenes):
    for scene in scenes:
        n = len(scene.classes)
        assert n <= MOST
        assert scene.classes.dtype == np.int64
        assert scene.boxes_xyxy.dtype == np.float32
        assert scene.boxes_xyxy.shape == (n, 4)
        assert scene.boxes_xyxy.min(initial=0) >= 0
        assert scene.boxes_xyxy.max(initial=0) <= 320
        assert (scene.boxes_xyxy[:, 2:] - scene.boxes_xyxy[:, :2] > 2).all()


def test_a_picture_without_a_label_has_empty_arrays():
    classes, boxes_xyxy = label([], np.zeros((9, 9), np.uint8))
    assert (classes.shape, boxes_xyxy.shape) == ((0,), (0, 4))


def test_all_classes_occur_about_as_often(scenes):
    counts = np.bincount(np.concatenate([scene.classes for scene in scenes]), minlength=len(CLASSES))
    assert len(CLASSES) == 8
    assert counts.min() > counts.mean() / 2


def test_there_are_small_and_large_shapes_and_few_and_many(scenes):
    boxes_xyxy = np.concatenate([scene.boxes_xyxy for scene in scenes])
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(1)
    assert sides.min() < SMALLEST + 6
    assert LARGEST - 20 < sides.max() < 1.2 * LARGEST
    shares = np.histogram(sides, [0, 32, 96, 320])[0] / len(sides)
    assert shares.min() > 0.15
    assert {1, MOST} <= {len(scene.classes) for scene in scenes}


@pytest.mark.parametrize("name", CLASSES)
def test_boxes_are_tight_around_what_is_drawn(plain, monkeypatch, name):
    monkeypatch.setattr(module, "CLASSES", (name,))
    labelled = 0
    for seed in range(20):
        scene = draw_scene(seed)
        if len(scene.classes):
            rows, columns = np.nonzero(scene.pixels.max(2) > 110)
            drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(scene.boxes_xyxy[0], drawn, atol=1)
            labelled += 1
    assert labelled > 15


@pytest.mark.parametrize("name", CLASSES)
def test_a_shape_is_as_long_as_asked(name):
    rng = np.random.default_rng(0)
    contours, extent = module._turn(rng, module._CONTOURS[name](rng), 40)
    assert extent.max() == pytest.approx(40)
    for contour in contours:
        assert (np.abs(contour) <= extent / 2 + 1e-9).all()


def test_a_ring_has_a_hole_and_a_disc_has_none(plain, monkeypatch):
    for name, middle in (("ring", 0), ("disc", 255)):
        monkeypatch.setattr(module, "CLASSES", (name,))
        scene = draw_scene(0)
        x1, y1, x2, y2 = scene.boxes_xyxy[0].astype(int)
        assert abs(int(scene.pixels[(y1 + y2) // 2, (x1 + x2) // 2, 0]) - middle) < 70


@pytest.mark.parametrize(
    ("above", "kept"),
    [
        pytest.param(square(60, 60, 9), [3, 3], id="apart"),
        pytest.param(square(10, 20, 20), [3, 3], id="half hidden"),
        pytest.param(square(10, 19, 20), [3], id="more than half hidden"),
        pytest.param(square(0, 0, 60), [3], id="hidden"),
    ],
)
def test_shapes_hidden_by_others_are_not_labelled(above, kept):
    below = square(10, 10, 20)
    classes, boxes_xyxy = label([below, above], shown([below, above]))
    assert classes.tolist() == kept
    assert ([10, 10, 30, 30] in boxes_xyxy.tolist()) == (len(kept) == 2)


@pytest.mark.parametrize(
    ("left", "box"),
    [
        pytest.param(-10, [[0, 5, 10, 25]], id="half outside"),
        pytest.param(-11, [], id="more than half outside"),
        pytest.param(85, [[85, 5, 100, 25]], id="outside on the right"),
    ],
)
def test_boxes_end_where_the_picture_does(left, box):
    shape = square(left, 5, 20)
    assert label([shape], shown([shape]))[1].tolist() == box


def test_some_drawn_shapes_are_dropped(monkeypatch):
    drawn = []
    whole = module.label
    monkeypatch.setattr(module, "label", lambda shapes, taken: drawn.append(shapes) or whole(shapes, taken))
    labelled = sum(len(draw_scene(seed).classes) for seed in range(40))
    assert 0.8 * sum(map(len, drawn)) < labelled < sum(map(len, drawn))
