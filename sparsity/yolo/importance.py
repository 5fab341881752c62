"""How much each number of the raw maps counts, when what the network finds is to stay the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BACKGROUND = 0.01
"""What a cell without an object counts, of one that surely holds one."""
PARTS = (slice(0, 4), slice(4, 5), slice(5, None))
"""Boxes, objectness, classes, of a cell that YOLOv5 gives."""


def raw_map_importance(raw: Sequence[Tensor], na: int) -> list[Tensor]:
    """Raw maps [batch, na * (5 + nc), height, width] -> weights of their squared errors, same shapes.

    Every level, and in it boxes, objectness and classes, counts as much: weights are divided by the
    variances of these. Cells count as the objectness that the maps give them; all classes alike, so that
    those which the calibration images lack count too.
    """
    cells = [level.unflatten(1, (na, -1)) for level in raw]
    return [_level(level, level[:, :, 4:5], PARTS).flatten(1, 2) for level in cells]


def anchor_free_importance(raw: Sequence[Tensor], box_numbers: int) -> list[Tensor]:
    """Raw maps [batch, box_numbers + nc, height, width] -> weights, as raw_map_importance.

    Cells count as the best class that the maps give them.
    """
    parts = (slice(0, box_numbers), slice(box_numbers, None))
    cells = [level[:, None] for level in raw]
    return [_level(x, x[:, :, box_numbers:].amax(2, keepdim=True), parts)[:, 0] for x in cells]


def _level(cells: Tensor, objects: Tensor, parts: Sequence[slice]) -> Tensor:
    """[batch, na, numbers, height, width] -> weights of the same shape.

    objects: logits [batch, na, 1, height, width] of there being one.
    """
    place = objects.sigmoid() + BACKGROUND
    place = place / place.sum()
    weights = torch.empty_like(cells)
    for part in parts:
        numbers = cells[:, :, part]
        mean = (numbers * place).sum((0, 1, 3, 4), keepdim=True)
        variance = ((numbers - mean).square() * place).sum((0, 1, 3, 4)).mean()
        weights[:, :, part] = place / (numbers.shape[2] * variance.clamp(min=1e-6))
    return weights
