"""A convolution's weights as the kernels read them: the nonzero ones, and where each one's factor lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity.engine.emit import LANES
from sparsity.engine.graph import Convolution
from sparsity.engine.layout import Place
from sparsity.errors import InputError


@dataclass(frozen=True)
class Stream:
    """values: float32 [n]. offsets: int32 [n], floats from the first cell of the first channel of a tile.

    starts: int64 [blocks x outputs + 1], where the weights of each block of input channels and output begin.
    """

    values: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    blocks: int


def make_stream(step: Convolution, place: Place, block: int) -> Stream:
    """The nonzero weights by block of input channels, output, channel, row and column.

    place: the source's. block: input channels (of a group of the convolution) to a block.
    Raises InputError where the source is too large for int32 offsets.
    """
    outputs, per_group = step.weight.shape[:2]
    blocks = -(-per_group // block)
    output, channel, row, column = step.weight.nonzero()
    values = step.weight[output, channel, row, column]
    keys = channel // block * outputs + output
    counts = np.bincount(keys, minlength=blocks * outputs)
    channel += output // (outputs // step.groups) * per_group
    row, column = (side * step.dilation - step.padding for side in (row, column))
    offsets = channel * place.plane + row * place.pitch + column * LANES
    if blocks > 1:
        order = keys.argsort(kind="stable")
        values, offsets = values[order], offsets[order]
    starts = np.concatenate(([0], counts.cumsum()))
    return Stream(values, _int32(step, offsets), starts, blocks)


def make_groups(step: Convolution, place: Place, block: int, group: int) -> Stream:
    """All weights of a convolution without groups, `group` outputs at a time.

    Those of a group and block are [channel, row, column][group]; offsets, one for all outputs, stand at the
    first of their indices. starts: where each block's and group's begin.
    """
    outputs, channels, kernel, _ = step.weight.shape
    blocks = -(-channels // block)
    taps = np.arange(kernel) * step.dilation - step.padding
    inside = (taps[:, None] * place.pitch + taps * LANES).ravel()
    values, offsets, lengths = [], [], []
    for first in range(0, channels, block):
        part = step.weight[:, first : first + block].reshape(outputs // group, group, -1)
        numbers = np.ascontiguousarray(part.transpose(0, 2, 1))
        mine = ((np.arange(first, min(first + block, channels)) * place.plane)[:, None] + inside).ravel()
        room = np.zeros((len(numbers), len(mine) * group), np.int64)
        room[:, : len(mine)] = mine
        values.append(numbers.ravel())
        offsets.append(room.ravel())
        lengths += [len(mine) * group] * len(numbers)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return Stream(
        np.concatenate(values).astype(np.float32, copy=False),
        _int32(step, np.concatenate(offsets)),
        starts,
        blocks,
    )


def _int32(step: Convolution, offsets: np.ndarray) -> np.ndarray:
    if len(offsets) and int(np.abs(offsets).max()) > np.iinfo(np.int32).max:
        raise InputError(f"{step.name}: its input is too large for the sparse engine; --engine torch runs it")
    return offsets.astype(np.int32)
