"""Lists a convolution's weights for the kernels, each with the offset of the value that it multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsity.base.errors import InputError
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.graph import Convolution
from sparsity.sparse_engine.layout import Place


@dataclass(frozen=True)
class Stream:
    """A convolution's weights in the order in which a kernel reads them.

    values: float32 [n]; in packed maps, each holds the bits of several weights.
    offsets: int32 [n], in floats, from the first cell of a tile's first channel.
    starts: int64 [blocks x outputs + 1], where the weights of each block of input channels and each output
    begin. blocks: the number of blocks.
    """

    values: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    blocks: int


def make_stream(step: Convolution, place: Place, block: int) -> Stream:
    """Return the nonzero weights, ordered by block of input channels, output, channel, row and column.

    place: of the source map. block: input channels in a block (of one group of the convolution).
    Raises InputError where the source is too large for int32 offsets.
    """
    outputs, per_group = step.weight.shape[:2]
    group = np.arange(outputs) // (outputs // step.groups)
    values, offsets, counts = [], [], []
    for first in range(0, per_group, block):
        part = step.weight[:, first : first + block].reshape(outputs, -1)
        output, tap = part.nonzero()
        places = _tap_offsets(step, place, np.arange(first, min(first + block, per_group)))[tap]
        if step.groups > 1:
            places += _int32(step, group * (per_group * place.plane))[output]
        values.append(part[output, tap])
        offsets.append(places)
        counts.append(np.bincount(output, minlength=outputs))
    starts = np.concatenate(([0], np.concatenate(counts).cumsum()))
    return Stream(_joined(values), np.concatenate(offsets), starts, len(values))


def make_groups(step: Convolution, place: Place, block: int, group: int) -> Stream:
    """Return all weights of a convolution without groups, for kernels that compute `group` outputs together.

    The weights of one block and one group of outputs are [channel, row, column][group]. All outputs of the
    group share one offset for each (channel, row, column), at the beginning of the part's indices.
    starts: int64 [blocks x outputs / group + 1], where the weights of each block and each group begin.
    Raises InputError where the source is too large for int32 offsets.
    """
    outputs, channels = step.weight.shape[:2]
    values, offsets, lengths = [], [], []
    for first in range(0, channels, block):
        part = step.weight[:, first : first + block].reshape(outputs // group, group, -1)
        numbers = np.ascontiguousarray(part.transpose(0, 2, 1))
        mine = _tap_offsets(step, place, np.arange(first, min(first + block, channels)))
        padded = np.zeros((len(numbers), len(mine) * group), np.int32)
        padded[:, : len(mine)] = mine
        values.append(numbers.ravel())
        offsets.append(padded.ravel())
        lengths += [len(mine) * group] * len(numbers)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return Stream(_joined(values), np.concatenate(offsets), starts, len(values))


def _joined(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(values).view(np.float32)


def _tap_offsets(step: Convolution, place: Place, channels: np.ndarray) -> np.ndarray:
    """Return int32 [channels x kernel x kernel]: the offset of the value that each weight multiplies.

    The offset is relative to a tile's first cell.
    """
    taps = np.arange(step.weight.shape[2]) * step.dilation - step.padding
    inside = taps[:, None] * place.pitch + taps * LANES
    return _int32(step, ((channels * place.plane)[:, None] + inside.ravel()).ravel())


def _int32(step: Convolution, offsets: np.ndarray) -> np.ndarray:
    if len(offsets) and int(np.abs(offsets).max()) > np.iinfo(np.int32).max:
        raise InputError(f"{step.name}: its input is too large for the sparse engine; `engine` torch runs it")
    return offsets.astype(np.int32)
