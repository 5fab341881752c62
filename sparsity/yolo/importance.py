"""How much an error in each number of the raw maps matters for what the network detects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BACKGROUND = 0.01
"""Weight of a cell without an object, relative to a cell that certainly holds one."""
PARTS = (slice(0, 4), slice(4, 5), slice(5, None))
"""Boxes, objectness and classes among the numbers of a YOLOv5 cell."""


def raw_map_importance(raw: Sequence[Tensor], na: int) -> list[Tensor]:
    """Raw maps [batch, na * (5 + nc), height, width] -> the weights of their squared errors, same shapes.

    All maps have equal weight. Within a map, boxes, objectness and classes have equal weight: their weights
    are divided by their variances. Cells are weighted by the objectness that the maps give them. All classes
    have equal weight, so that classes which do not occur in the calibration images count too.
    """
    cells = [x.unflatten(1, (na, -1)) for x in raw]
    return [_weights(x, x[:, :, 4:5], PARTS).flatten(1, 2) for x in cells]


def anchor_free_importance(raw: Sequence[Tensor], box_numbers: int) -> list[Tensor]:
    """Raw maps [batch, box_numbers + nc, height, width] -> the weights, as in raw_map_importance.

    Cells are weighted by the score of their best class.
    """
    parts = (slice(0, box_numbers), slice(box_numbers, None))
    cells = [x[:, None] for x in raw]
    return [_weights(x, x[:, :, box_numbers:].amax(2, keepdim=True), parts)[:, 0] for x in cells]


def _weights(cells: Tensor, objects: Tensor, parts: Sequence[slice]) -> Tensor:
    """[batch, na, numbers, height, width] -> the weights, same shape.

    objects: [batch, na, 1, height, width], the logits that a cell holds an object.
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
