"""Which cells and anchors of the head learn which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_RATIO = 4.0
"""A target's side and the anchor's differ by less than this factor: no larger size can be decoded."""
STEPS_XY = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps from a target's own cell to the cells that can learn it: itself, left, right, up, down."""


@dataclass(frozen=True)
class Matches:
    """Places of one raw map and what each should predict. A target has none, one or many places.

    image, anchor, row, column: int64 [m], the place.
    boxes_cxcywh: float [m, 4], in cells, the centre relative to the place's cell (-0.5..1.5).
    classes: int64 [m].
    anchors_wh: float [m, 2], in cells.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    boxes_cxcywh: Tensor
    classes: Tensor
    anchors_wh: Tensor


def match_targets(targets: Tensor, anchors: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Matches]:
    """Targets and the head's anchors -> the matches of each raw map.

    targets: float [n, 6]: index of the image, class, cx, cy, w, h, normalised to 0..1.
    anchors: [maps, na, 2], width and height in cells, on the targets' device.
    shapes: height and width of each raw map, in cells.

    In every raw map, a target is matched to all anchors within LARGEST_RATIO of its width and height. It is
    matched in the cell of its centre, and in the horizontal and the vertical neighbour that is nearer to the
    centre.
    """
    pairs = zip(anchors, shapes, strict=True)
    return [_match_map(targets, anchors_wh, height, width) for anchors_wh, (height, width) in pairs]


def _match_map(targets: Tensor, anchors_wh: Tensor, height: int, width: int) -> Matches:
    size_wh = targets.new_tensor((width, height))
    centre_xy, wh = targets[:, 2:4] * size_wh, targets[:, 4:6] * size_wh
    last_xy = torch.tensor((width - 1, height - 1), device=targets.device)
    # A centre on the right or lower edge of the image belongs to the last cell.
    own_xy = centre_xy.floor().long().clamp(min=0).minimum(last_xy)
    places = _fits(wh, anchors_wh)[:, :, None] & _takes(centre_xy, own_xy, last_xy)[:, None, :]
    target, anchor, step = places.nonzero().unbind(1)
    cell_xy = own_xy[target] + own_xy.new_tensor(STEPS_XY)[step]
    image, classes = targets[target, :2].long().unbind(1)
    return Matches(
        image=image,
        anchor=anchor,
        row=cell_xy[:, 1],
        column=cell_xy[:, 0],
        boxes_cxcywh=torch.cat((centre_xy[target] - cell_xy, wh[target]), 1),
        classes=classes,
        anchors_wh=anchors_wh[anchor],
    )


def _fits(wh: Tensor, anchors_wh: Tensor) -> Tensor:
    """Sizes [n, 2] and anchors [na, 2], in cells -> bool [n, na]: whether width and height are similar."""
    ratio = wh[:, None] / anchors_wh
    return torch.maximum(ratio, 1 / ratio).amax(2) < LARGEST_RATIO


def _takes(centre_xy: Tensor, own_xy: Tensor, last_xy: Tensor) -> Tensor:
    """Centres and their own cells [n, 2] -> bool [n, 5]: which of STEPS_XY lead to cells that match."""
    inside_xy = centre_xy - own_xy
    left, up = ((inside_xy < 0.5) & (centre_xy > 1)).unbind(1)
    right, down = ((inside_xy > 0.5) & (own_xy < last_xy)).unbind(1)
    return torch.stack((torch.ones_like(left), left, right, up, down), 1)
