"""How much each number of the raw maps counts, when what the network finds is to stay the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BACKGROUND = 0.01
"""What a cell without an object counts, of one that surely holds one."""
PARTS = (slice(0, 4), slice(4, 5), slice(5, None))
"""Boxes, objectness, classes."""


def raw_map_importance(raw: Sequence[Tensor], na: int) -> list[Tensor]:
    """Raw maps [batch, na * (5 + nc), height, width] -> weights of their squared errors, same shapes.

    Every level, and in it boxes, objectness and classes, counts as much: weights are divided by the
    variances of these. Cells count as the objectness that the maps give them; all classes alike, so that
    those which the calibration images lack count too.
    """
    return [_level(level.unflatten(1, (na, -1))).flatten(1, 2) for level in raw]


def _level(cells: Tensor) -> Tensor:
    """[batch, na, 5 + nc, height, width] -> weights of the same shape."""
    place = cells[:, :, 4:5].sigmoid() + BACKGROUND
    place = place / place.sum()
    weights = torch.empty_like(cells)
    for part in PARTS:
        numbers = cells[:, :, part]
        mean = (numbers * place).sum((0, 1, 3, 4), keepdim=True)
        variance = ((numbers - mean).square() * place).sum((0, 1, 3, 4)).mean()
        weights[:, :, part] = place / (numbers.shape[2] * variance.clamp(min=1e-6))
    return weights
