"""What the C code computes, in order: each step with its maps' places, for vectors of one width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.sparse_engine.attention import scratch_floats
from sparsity.sparse_engine.choices import Choice, ranked, task_of
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Pooling, Step
from sparsity.sparse_engine.layout import Layout, lay_out, place_alone
from sparsity.sparse_engine.machine import Machine
from sparsity.sparse_engine.program import cells_of_area

ATTENTION_ROWS, ATTENTION_VECTORS = 4, 2
"""ROWS and VECTORS of operations.c."""
LARGEST_INT = 2**31 - 1


@dataclass(frozen=True)
class Filling:
    """Fills the halo of a map."""

    source: Map


@dataclass(frozen=True)
class Plan:
    """The steps for vectors of one width.

    lanes: numbers in a vector. layout: the places of the maps. steps: in order. tiles: of the convolutions,
    in order: rows and columns of vectors. scratch: the floats that one thread needs beside the arena.
    """

    lanes: int
    layout: Layout
    steps: tuple[Step | Filling, ...]
    tiles: tuple[tuple[int, int], ...]
    scratch: int

    @property
    def floats(self) -> int:
        """The size of the arena, for one image."""
        return self.layout.floats + self.layout.per_image


def convolutions(graph: Graph) -> list[Convolution]:
    """Return the convolutions of a graph, in order."""
    return [step for step in graph.steps if isinstance(step, Convolution)]


def estimate_choices(graph: Graph, height: int, width: int, machine: Machine) -> list[Choice]:
    """Return the choice with the smallest estimated time on a machine, for each convolution."""
    layout = lay_out(graph, height, width, machine.lanes)
    tasks = [task_of(step, layout.places[step.result].cells, 1) for step in convolutions(graph)]
    return [ranked(task, machine)[0] for task in tasks]


def make_plan(graph: Graph, height: int, width: int, choices: Sequence[Choice], machine: Machine) -> Plan:
    """Return the plan for a machine. choices: of the convolutions; their tiles are used where they fit.

    Where a map is too small for a tile, or the choice was made for vectors of another width, the machine's
    tile with the smallest estimated time takes its place. Blocks and groups stay.
    Raises InputError for images so large that an int of C can't count the memory of their maps.
    """
    layout = lay_out(graph, height, width, machine.lanes)
    if layout.floats + layout.per_image > LARGEST_INT:
        raise InputError(
            f"`imgsz` is {height} x {width}: such images are too large for C code; give a smaller one"
        )
    tiles = [
        _tile(step, layout, choice, machine)
        for step, choice in zip(convolutions(graph), choices, strict=True)
    ]
    steps: list[Step | Filling] = []
    filled: set[Map] = set()
    for step in graph.steps:
        if isinstance(step, Convolution) and step.reach and step.source not in filled:
            filled.add(step.source)
            steps.append(Filling(step.source))
        steps.append(step)
    needs = [
        _scratch(step, layout, machine.lanes) for step in graph.steps if not isinstance(step, Convolution)
    ]
    sums = [
        len(step.weight) * math.prod(tile) * machine.lanes
        for step, tile in zip(convolutions(graph), tiles, strict=True)
    ]
    return Plan(machine.lanes, layout, tuple(steps), tuple(tiles), max([*needs, *sums]))


def _tile(step: Convolution, layout: Layout, choice: Choice, machine: Machine) -> tuple[int, int]:
    task = task_of(step, layout.places[step.result].cells, 1)
    fitting = [one for one in ranked(task, machine) if one.group == choice.group]
    if any(one.tile == choice.tile for one in fitting):
        return choice.tile
    if fitting:
        return fitting[0].tile
    # No dense tile with so many outputs fits: a single vector does.
    return 1, 1


def _scratch(step: Step, layout: Layout, lanes: int) -> int:
    """Return the floats of scratch that a pooling or an attention needs; 0 for other steps."""
    place = layout.places[step.source]
    if isinstance(step, Pooling):
        reach = step.kernel // 2
        return 2 * (place.cells.rows + 2 * reach) * place_alone(place.cells, reach).pitch
    if isinstance(step, Attention):
        sizes = {"block": ATTENTION_VECTORS * lanes, "together": ATTENTION_ROWS}
        return scratch_floats(cells_of_area(step, place), step.keys, step.values, **sizes)
    return 0
