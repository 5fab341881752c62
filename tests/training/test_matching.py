"""Targets find the cells and anchors that a hand finds."""

import pytest
import torch

from sparsity.training.matching import match_targets

UNIT = [[[1.0, 1.0]]]
"""One map with one anchor of the size of a cell."""


def target(
    x: float, y: float, w: float = 1, h: float = 1, *, width: int = 4, height: int = 4, image: int = 0
):
    """A row of targets from a box in cells of a map, class 7."""
    return [image, 7, x / width, y / height, w / width, h / height]


def matched(rows, anchors=UNIT, shapes=((4, 4),)):
    return match_targets(torch.tensor(rows).reshape(-1, 6), torch.tensor(anchors), shapes)


def cells_of(matches) -> set[tuple[int, int]]:
    """Column and row of each match, of which no two are the same."""
    cells = list(zip(matches.column.tolist(), matches.row.tolist(), strict=True))
    assert len(set(cells)) == len(cells)
    return set(cells)


@pytest.mark.parametrize(
    ("x", "y", "cells"),
    [
        pytest.param(2.25, 1.25, {(2, 1), (1, 1), (2, 0)}, id="nearer to left and up"),
        pytest.param(1.75, 1.75, {(1, 1), (2, 1), (1, 2)}, id="nearer to right and down"),
        pytest.param(1.25, 2.75, {(1, 2), (0, 2), (1, 3)}, id="nearer to left and down"),
        pytest.param(1.5, 1.5, {(1, 1)}, id="amid the cell"),
        pytest.param(1.5, 1.75, {(1, 1), (1, 2)}, id="amid its columns"),
        pytest.param(0.25, 0.25, {(0, 0)}, id="first corner"),
        pytest.param(3.75, 3.75, {(3, 3)}, id="last corner"),
        pytest.param(0.25, 1.75, {(0, 1), (0, 2)}, id="left border"),
        pytest.param(1.75, 3.75, {(1, 3), (2, 3)}, id="lower border"),
        pytest.param(4.0, 4.0, {(3, 3)}, id="on the image's last corner"),
        pytest.param(0.0, 0.0, {(0, 0)}, id="on the image's first corner"),
        pytest.param(2.0, 2.0, {(2, 2), (1, 2), (2, 1)}, id="on a cell's corner"),
    ],
)
def test_cells(x, y, cells):
    (found,) = matched([target(x, y)])
    assert cells_of(found) == cells
    centre_xy = found.boxes_cxcywh[:, :2] + torch.stack((found.column, found.row), 1)
    assert torch.allclose(centre_xy, torch.tensor([x, y]))
    assert found.boxes_cxcywh[:, :2].min() >= -0.5
    assert found.boxes_cxcywh[:, :2].max() <= 1.5


@pytest.mark.parametrize(
    ("w", "h", "anchors"),
    [
        pytest.param(1, 1, {0}, id="the anchor's size"),
        pytest.param(3.96, 1, {0}, id="width just under 4 times"),
        pytest.param(4.04, 1, set(), id="width just over 4 times"),
        pytest.param(1, 4.04, set(), id="height just over 4 times"),
        pytest.param(4, 1, set(), id="4 times"),
        pytest.param(0.2525, 1, {0}, id="just over a quarter"),
        pytest.param(0.2475, 1, set(), id="just under a quarter"),
        pytest.param(3, 3, {0, 1}, id="both anchors"),
        pytest.param(12, 12, {1}, id="the larger anchor"),
        pytest.param(0, 1, set(), id="empty box"),
    ],
)
def test_anchors(w, h, anchors):
    (found,) = matched([target(1.5, 1.5, w, h)], anchors=[[[1.0, 1.0], [8.0, 8.0]]])
    assert set(found.anchor.tolist()) == anchors
    assert found.anchors_wh.tolist() == [[[1, 1], [8, 8]][a] for a in found.anchor]


def test_a_match_tells_image_class_and_box():
    (found,) = matched([target(1.5, 2.75, 2, 3, image=5)])
    assert found.image.tolist() == [5, 5]
    assert found.classes.tolist() == [7, 7]
    assert (found.row.tolist(), found.column.tolist()) == ([2, 3], [1, 1])
    assert found.boxes_cxcywh.tolist() == [[0.5, 0.75, 2, 3], [0.5, -0.25, 2, 3]]
    for index in (found.image, found.classes, found.row, found.column, found.anchor):
        assert index.dtype == torch.int64


def test_every_level_has_its_own_anchors_and_cells():
    anchors, shapes = [[[1.0, 1.0]], [[1.0, 1.0]], [[100.0, 100.0]]], [(8, 8), (4, 4), (2, 2)]
    fine, coarse, none = matched([target(1.5, 1.75)], anchors, shapes)
    assert cells_of(fine) == {(3, 3), (2, 3)}  # the centre is at 3.0, 3.5 there
    assert cells_of(coarse) == {(1, 1), (1, 2)}
    assert cells_of(none) == set()
    assert fine.boxes_cxcywh[0, 2:].tolist() == [2, 2]


def test_rows_and_columns_of_a_map_that_is_not_square():
    (found,) = matched([target(5.75, 0.5, width=6, height=2)], shapes=((2, 6),))
    assert cells_of(found) == {(5, 0)}
    (found,) = matched([target(3.75, 1.25, width=6, height=2)], shapes=((2, 6),))
    assert cells_of(found) == {(3, 1), (4, 1), (3, 0)}


def test_no_targets():
    (found,) = matched([])
    assert found.image.shape == (0,)
    assert found.boxes_cxcywh.shape == (0, 4)
    assert found.anchors_wh.shape == (0, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (80, 80)])
def test_never_outside_the_map(shape):
    ends = [0.0, 1e-9, 0.5, 1 - 2**-24, 1.0]
    centres = torch.cartesian_prod(torch.tensor(ends), torch.tensor(ends))
    sizes = torch.tensor([1 / shape[1], 1 / shape[0]]).expand(len(centres), 2)
    rows = torch.cat((torch.zeros(len(centres), 2), centres, sizes), 1)
    (found,) = match_targets(rows, torch.tensor(UNIT), [shape])
    assert len(set(map(tuple, centres.tolist()))) <= len(found.row)
    assert 0 <= found.row.min() <= found.row.max() < shape[0]
    assert 0 <= found.column.min() <= found.column.max() < shape[1]
    assert found.boxes_cxcywh[:, :2].min() >= -0.5
    assert found.boxes_cxcywh[:, :2].max() <= 1.5
