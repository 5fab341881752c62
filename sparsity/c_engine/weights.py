"""Lists a convolution's weights in the order in which the C kernels read them, for vectors of any width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity.base.errors import InputError
from sparsity.sparse_engine.choices import Choice
from sparsity.sparse_engine.graph import Convolution

MOST_TAPS = 1 << 16


@dataclass(frozen=True)
class Weights:
    """The weights of a convolution.

    values: float32 [n]. Of a group of 1: those that are not zero, ordered by block of input channels, output,
    channel, row and column. Of larger groups: all, ordered by block, group, channel, row, column and output.
    taps: uint16 [n], channel x kernel positions + position, of each value. None for larger groups.
    starts: uint32 [blocks x outputs + 1], where the values of each block and output begin. None likewise.
    block: input channels in a block. blocks: their number. group: outputs that are computed together.
    offsets: how many places of values the kernels look up.
    """

    values: np.ndarray
    taps: np.ndarray | None
    starts: np.ndarray | None
    block: int
    blocks: int
    group: int
    offsets: int


def list_weights(step: Convolution, choice: Choice) -> Weights:
    """Return a convolution's weights. Raises InputError where it has too many input channels."""
    outputs, per_group, kernel = step.weight.shape[:3]
    if per_group * kernel * kernel > MOST_TAPS:
        raise InputError(
            f"{step.name}: {per_group} input channels with {kernel} x {kernel} weights are too many for C "
            f"code, which counts up to {MOST_TAPS} weights of an output"
        )
    flat = step.weight.reshape(outputs, per_group, -1)
    blocks = [flat[:, first : first + choice.block] for first in range(0, per_group, choice.block)]
    common = {"block": choice.block, "blocks": len(blocks), "group": choice.group}
    if choice.group > 1:
        parts = [_grouped(part, choice.group) for part in blocks]
        return Weights(np.concatenate(parts), None, None, offsets=flat[0].size, **common)
    found = [part.reshape(outputs, -1).nonzero() for part in blocks]
    rows = zip(blocks, found, strict=True)
    values = np.concatenate([part.reshape(outputs, -1)[where] for part, where in rows])
    area, counts = flat.shape[2], [np.bincount(output, minlength=outputs) for output, _ in found]
    taps = np.concatenate([tap + index * choice.block * area for index, (_, tap) in enumerate(found)])
    starts = np.concatenate(([0], np.concatenate(counts).cumsum()))
    return Weights(values, taps.astype(np.uint16), starts.astype(np.uint32), offsets=len(values), **common)


def _grouped(part: np.ndarray, group: int) -> np.ndarray:
    """Weights [outputs, channels, positions] -> [outputs / group, channels x positions, group], flat."""
    return part.reshape(len(part) // group, group, -1).transpose(0, 2, 1).ravel()
