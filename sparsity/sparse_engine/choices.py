"""How each convolution is divided: into tiles, blocks of input channels and spans of outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparsity.sparse_engine.graph import Convolution
from sparsity.sparse_engine.layout import Cells
from sparsity.sparse_engine.machine import MACHINE, Machine

CACHE = 20_000
"""Maximum bytes of a core's first-level cache for the input of one block."""
LEAST_OUTPUTS = 8
"""Minimum number of outputs in a span."""
ITEMS = 6
"""Work items per thread; with several, no thread waits long for the last item."""
PER_WEIGHT, PER_VECTOR = 0.75, 0.5
"""Estimated cycles per weight, without its multiply-adds; and per multiply-add of a vector."""
PER_OUTPUT, PER_SUM = 20.0, 1.5
"""Estimated cycles per output of a block; and per vector of its sums."""


@dataclass(frozen=True)
class Choice:
    """How one convolution is computed.

    tile: rows and columns of vectors. block: input channels in a block (of one group of the convolution).
    spans: the number of parts that the outputs are divided into.
    group: outputs that are computed together. The kernels with 1 skip zeros; those with more do not.
    """

    tile: tuple[int, int]
    block: int
    spans: int
    group: int


@dataclass(frozen=True)
class Task:
    """The properties of a convolution that a choice depends on.

    rows, columns: the size of the result, in vectors. extent: the side of the dilated kernel, in cells.
    outputs: output channels. per_group: input channels of one group. weights: the number of nonzero weights.
    whole: whether the convolution has one group only. taps: the number of kernel positions.
    share: how many channels share a number of a map (see packing). Input channels and weights are then
    counted in such numbers.
    """

    rows: int
    columns: int
    stride: int
    extent: int
    outputs: int
    per_group: int
    weights: int
    threads: int
    whole: bool
    taps: int
    share: int = 1

    @property
    def all_weights(self) -> int:
        """The number of weights, including zeros."""
        return self.outputs * self.per_group * self.taps


def task_of(step: Convolution, result: Cells, threads: int) -> Task:
    """Return the task of a convolution. result: the size of its output map."""
    outputs, per_group, kernel = step.weight.shape[:3]
    extent, whole = step.dilation * (kernel - 1) + 1, step.groups == 1
    sizes = (result.rows, result.columns, step.stride, extent, outputs, per_group)
    weights = int(np.count_nonzero(step.weight))
    return Task(*sizes, weights, threads, whole, kernel * kernel, step.packing.share)


def choose(task: Task) -> Choice:
    """Return the choice with the smallest estimated time."""
    return ranked(task)[0]


def ranked(task: Task, machine: Machine = MACHINE) -> list[Choice]:
    """Return choices for a task, whose blocks fill the cache, sorted by estimated time."""
    tiles = [*((*tile, 1) for tile in machine.tiles), *machine.dense_tiles_of(task.share)]
    choices = [
        with_block(task, tile[:2], fitting_block(task, tile[:2], machine.lanes), tile[2])
        for tile in tiles
        if _holds(task, *tile)
    ]
    return sorted(choices, key=lambda choice: _cycles(task, choice))


def fits(task: Task, choice: Choice) -> bool:
    """Whether this machine has the choice's kernel, and the task's map and channels are large enough for it.

    The kernels rely on this: they do not check bounds.
    """
    known = (
        choice.tile in MACHINE.tiles
        if choice.group == 1
        else (*choice.tile, choice.group) in MACHINE.dense_tiles_of(task.share)
    )
    parts = 1 <= choice.block <= task.per_group and 1 <= choice.spans <= task.outputs
    return known and parts and _holds(task, *choice.tile, choice.group)


def _holds(task: Task, rows: int, columns: int, group: int) -> bool:
    inside = rows <= task.rows and columns <= task.columns
    return inside and (group == 1 or (task.whole and task.outputs % group == 0))


def with_block(task: Task, tile: tuple[int, int], block: int, group: int) -> Choice:
    """Return a choice with blocks of about equal size, and enough spans to keep all threads busy.

    block: the maximum number of input channels in a block.
    """
    blocks = math.ceil(task.per_group / max(1, min(block, task.per_group)))
    return Choice(tile, math.ceil(task.per_group / blocks), _spans(task, tile), group)


def fitting_block(task: Task, tile: tuple[int, int], lanes: int = MACHINE.lanes) -> int:
    """Return how many input channels of a tile fit into the cache."""
    sides = [(side - 1) * task.stride + task.extent for side in tile]
    return max(1, CACHE // (math.prod(sides) * lanes * 4))


def count_tiles(task: Task, tile: tuple[int, int]) -> int:
    """Return the number of tiles that cover the result."""
    return math.ceil(task.rows / tile[0]) * math.ceil(task.columns / tile[1])


def _spans(task: Task, tile: tuple[int, int]) -> int:
    if task.threads == 1:
        return 1
    wanted = math.ceil(ITEMS * task.threads / count_tiles(task, tile))
    return max(1, min(wanted, task.outputs // LEAST_OUTPUTS))


def _cycles(task: Task, choice: Choice) -> float:
    vectors = math.prod(choice.tile)
    blocks = math.ceil(task.per_group / choice.block)
    if choice.group == 1:
        weights = task.weights * (PER_VECTOR * vectors + PER_WEIGHT)
    else:
        weights = task.all_weights * (PER_VECTOR * vectors + PER_WEIGHT / choice.group)
    outputs = task.outputs * blocks * (PER_OUTPUT + PER_SUM * vectors)
    items = count_tiles(task, choice.tile) * choice.spans
    # In the last round of items, some threads are idle.
    rounds = math.ceil(items / task.threads) * task.threads / items
    return count_tiles(task, choice.tile) * (weights + outputs) * rounds
