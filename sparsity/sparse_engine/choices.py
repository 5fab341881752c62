"""How each convolution is cut into pieces: tiles, blocks of input channels, spans of outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.graph import Convolution
from sparsity.sparse_engine.layout import Cells
from sparsity.sparse_engine.machine import MACHINE

CACHE = 20_000
"""Bytes of a core's first cache that a block's part of the input may fill."""
LEAST_OUTPUTS = 8
"""Outputs that a span has at least."""
ITEMS = 6
"""Pieces for each thread, so that none waits long for the last one."""
PER_WEIGHT, PER_VECTOR = 0.75, 0.5
"""Cycles that a weight costs beside its multiply-adds, and that each of these costs."""
PER_OUTPUT, PER_SUM = 20.0, 1.5
"""Cycles that an output of a block costs, and each vector of its sums."""


@dataclass(frozen=True)
class Choice:
    """tile: rows and columns of vectors. block: input channels (of a group of the convolution).

    spans: pieces of the outputs. group: outputs at a time; 1 skips zeros, more does not.
    """

    tile: tuple[int, int]
    block: int
    spans: int
    group: int


@dataclass(frozen=True)
class Task:
    """What a choice depends on. rows, columns: of the result, in vectors. weights: those that are not zero.

    whole: whether each output is made of all inputs. taps: of the kernel.
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

    @property
    def all_weights(self) -> int:
        """With those that are zero."""
        return self.outputs * self.per_group * self.taps


def task_of(step: Convolution, result: Cells, threads: int) -> Task:
    """result: the size of what the convolution gives."""
    outputs, per_group, kernel = step.weight.shape[:3]
    extent, whole = step.dilation * (kernel - 1) + 1, step.groups == 1
    sizes = (result.rows, result.columns, step.stride, extent, outputs, per_group)
    return Task(*sizes, int(np.count_nonzero(step.weight)), threads, whole, kernel * kernel)


def choose(task: Task) -> Choice:
    """The choice whose reckoned time is least."""
    return ranked(task)[0]


def ranked(task: Task) -> list[Choice]:
    """Choices with the block that fills the cache, the one whose reckoned time is least first."""
    tiles = [*((*tile, 1) for tile in MACHINE.tiles), *MACHINE.dense_tiles]
    choices = [
        with_block(task, tile[:2], fitting_block(task, tile[:2]), tile[2])
        for tile in tiles
        if _holds(task, *tile)
    ]
    return sorted(choices, key=lambda choice: _cycles(task, choice))


def fits(task: Task, choice: Choice) -> bool:
    """Whether there is such a kernel on this machine, and the task's map and channels are enough for it.

    Kernels rely on it: they check no bounds.
    """
    known = (
        choice.tile in MACHINE.tiles
        if choice.group == 1
        else (*choice.tile, choice.group) in MACHINE.dense_tiles
    )
    parts = 1 <= choice.block <= task.per_group and 1 <= choice.spans <= task.outputs
    return known and parts and _holds(task, *choice.tile, choice.group)


def _holds(task: Task, rows: int, columns: int, group: int) -> bool:
    inside = rows <= task.rows and columns <= task.columns
    return inside and (group == 1 or (task.whole and task.outputs % group == 0))


def with_block(task: Task, tile: tuple[int, int], block: int, group: int) -> Choice:
    """A choice with the block made even, and with as many spans as keep all threads busy."""
    blocks = math.ceil(task.per_group / max(1, min(block, task.per_group)))
    return Choice(tile, math.ceil(task.per_group / blocks), _spans(task, tile), group)


def fitting_block(task: Task, tile: tuple[int, int]) -> int:
    """How many input channels of a tile fit into the cache."""
    sides = [(side - 1) * task.stride + task.extent for side in tile]
    return max(1, CACHE // (math.prod(sides) * LANES * 4))


def count_tiles(task: Task, tile: tuple[int, int]) -> int:
    """How many tiles cover the result."""
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
    # The last round of items keeps only some threads busy.
    rounds = math.ceil(items / task.threads) * task.threads / items
    return count_tiles(task, choice.tile) * (weights + outputs) * rounds
