"""Where the maps of a graph lie in memory, for images of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity.base.errors import InputError
from sparsity.sparse_engine.arrays import LINE_FLOATS
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.graph import Convolution, Graph, Map, Step
from sparsity.sparse_engine.machine import GRIDS
from sparsity.sparse_engine.moves import REACH, shift_case

CACHE_SETS, ROW_SHIFT = 64, 13
"""A line's place in the first cache is its number's rest to 64: rows of a tile shall not share places."""


@dataclass(frozen=True)
class Cells:
    """A map's size, as a whole and in each block.

    height, width: cells that it has. rows, columns: of each of the grid's blocks, which hold them all.
    """

    height: int
    width: int
    rows: int
    columns: int
    grid: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether every block is full."""
        return (self.height, self.width) == (self.rows * self.grid[0], self.columns * self.grid[1])


@dataclass(frozen=True)
class Place:
    """Where a map begins in the arena, in floats; pitch from row to row, plane from channel to channel.

    A row of the map holds that row of all its channels: [row][channel][column][lane].
    """

    cells: Cells
    offset: int
    pitch: int
    plane: int
    halo: int


@dataclass(frozen=True)
class Layout:
    """places: of every map. floats: the arena's size."""

    places: Mapping[Map, Place]
    floats: int


def choose_grid(height: int, width: int) -> tuple[int, int]:
    """The grid of blocks that leaves the least of the lanes empty, for a map of height x width cells."""
    return min(GRIDS, key=lambda grid: -(-height // grid[0]) * -(-width // grid[1]))


def lay_out(graph: Graph, height: int, width: int) -> Layout:
    """Give each map a place, the same one to maps that are not needed at the same time.

    height, width: the images', multiples of graph.largest.
    """
    cells = _Sizes(graph.largest, height, width)
    halos = _halos(graph)
    lives = _lives(graph)
    homes = {home: cells.of(home.shrink) for home in lives}
    sizes = {home: _sizes(homes[home], halos.get(home, 0), home.channels) for home in lives}
    offsets, floats = _pack(
        {home: sizes[home][0] * (homes[home].rows + 2 * halos.get(home, 0)) for home in lives}, lives
    )
    places = {}
    for one in _maps(graph):
        home, first = one.home()
        pitch, plane = sizes[home]
        halo = halos.get(home, 0)
        begin = offsets[home] + first * plane + halo * (pitch + LANES)
        places[one] = Place(homes[home], begin, pitch, plane, halo)
    return Layout(places, floats)


def place_alone(cells: Cells, halo: int) -> Place:
    """Where a single channel of a map lies that has an array of its own. Raises InputError as lay_out."""
    pitch = _plane(cells, halo)
    return Place(cells, halo * (pitch + LANES), pitch, pitch * (cells.rows + 2 * halo), halo)


def halo_moves(place: Place, reach: int) -> np.ndarray:
    """int32 [n, 3]: where in a plane a vector of the halo is, where its source is, and the shift's case.

    Ordered by case, since the CPU foresees a branch best that goes as it went before.
    """
    cells = place.cells
    moves = []
    for y in range(-reach, cells.rows + reach):
        for x in range(-reach, cells.columns + reach):
            down, right = y // cells.rows, x // cells.columns
            if (down, right) == (0, 0):
                continue
            source = (y - down * cells.rows) * place.pitch + (x - right * cells.columns) * LANES
            moves.append((y * place.pitch + x * LANES, source, shift_case(cells.grid, down, right)))
    moves.sort(key=lambda move: move[2])
    return np.array(moves, np.int32).reshape(-1, 3)


def edge_floats(place: Place) -> np.ndarray:
    """int32 [n]: where in a plane lanes hold cells that lie beyond the map's edge."""
    cells = place.cells
    if cells.whole:
        return np.zeros(0, np.int32)
    lane = np.arange(LANES)
    y = np.arange(cells.rows)[:, None, None] + lane // cells.grid[1] * cells.rows
    x = np.arange(cells.columns)[None, :, None] + lane % cells.grid[1] * cells.columns
    beyond = (y >= cells.height) | (x >= cells.width)
    row, column, lane = beyond.nonzero()
    return (row * place.pitch + column * LANES + lane).astype(np.int32)


@dataclass(frozen=True)
class _Sizes:
    largest: int
    height: int
    width: int

    def of(self, shrink: int) -> Cells:
        """All levels are cut at the same lines: those of the coarsest one."""
        coarse = self.height // self.largest, self.width // self.largest
        grid = choose_grid(*coarse)
        rows, columns = (-(-side // blocks) for side, blocks in zip(coarse, grid, strict=True))
        finer = self.largest // shrink
        return Cells(self.height // shrink, self.width // shrink, rows * finer, columns * finer, grid)


def _maps(graph: Graph) -> list[Map]:
    found = {graph.image: None}
    for step in graph.steps:
        for one in (step.source, step.result, _residual(step)):
            if one is not None:
                found[one] = None
    found |= dict.fromkeys(graph.outputs)
    return list(found)


def _residual(step: Step) -> Map | None:
    return step.residual if isinstance(step, Convolution) else None


def _halos(graph: Graph) -> dict[Map, int]:
    """By home: how wide a halo is needed."""
    halos: dict[Map, int] = {}
    for step in graph.steps:
        if isinstance(step, Convolution) and step.reach > 0:
            home = step.source.home()[0]
            halos[home] = max(halos.get(home, 0), step.reach)
    return halos


def _lives(graph: Graph) -> dict[Map, tuple[int, int]]:
    """By home: the first step that writes into it, and the last one that reads it."""
    lives: dict[Map, tuple[int, int]] = {graph.image.home()[0]: (-1, 0)}
    for index, step in enumerate(graph.steps):
        for one in (step.result, step.source, _residual(step)):
            if one is not None:
                home = one.home()[0]
                lives[home] = (lives.get(home, (index,))[0], index)
    for one in graph.outputs:
        home = one.home()[0]
        lives[home] = (lives[home][0], len(graph.steps))
    return lives


def _sizes(cells: Cells, halo: int, channels: int) -> tuple[int, int]:
    """Pitch and plane in floats: a row holds all channels, so that a tile's are near one another."""
    plane = _plane(cells, halo)
    lines = -(-channels * plane // LINE_FLOATS)
    lines += (ROW_SHIFT - lines) % CACHE_SETS
    return lines * LINE_FLOATS, plane


def _plane(cells: Cells, halo: int) -> int:
    if max(-(-halo // cells.rows), -(-halo // cells.columns)) > REACH:
        raise InputError(
            f"a map of {cells.height} x {cells.width} cells is too small for the sparse engine: give a "
            "larger --imgsz, or --engine torch"
        )
    return (cells.columns + 2 * halo) * LANES


def _pack(sizes: Mapping[Map, int], lives: Mapping[Map, tuple[int, int]]) -> tuple[dict[Map, int], int]:
    """Offsets such that maps alive at the same time don't overlap; large ones first, as low as they go."""
    offsets: dict[Map, int] = {}
    for one in sorted(sizes, key=lambda home: -sizes[home]):
        begin, end = lives[one]
        beside = [other for other in offsets if lives[other][0] <= end and begin <= lives[other][1]]
        offsets[one] = _lowest(sizes[one], sorted((offsets[other], sizes[other]) for other in beside))
    return offsets, max(offsets[one] + sizes[one] for one in sizes)


def _lowest(size: int, taken: Sequence[tuple[int, int]]) -> int:
    place = 0
    for begin, length in taken:
        if place + size <= begin:
            break
        place = max(place, begin + length)
    return place
