"""Assigns each map of a graph its place in memory, for images of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from sparsity.base.errors import InputError
from sparsity.sparse_engine.arrays import LINE_FLOATS
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.graph import Convolution, Graph, Map, maps_in, maps_of
from sparsity.sparse_engine.machine import GRIDS_OF
from sparsity.sparse_engine.moves import REACH, shift_case

CACHE_SETS, ROW_SHIFT = 64, 13
"""Sets of the first-level cache, and the lines by which rows are shifted.

A line's set is its number modulo 64. The shift puts the rows of a tile into different sets.
"""


@dataclass(frozen=True)
class Cells:
    """A map's size.

    height, width: of the whole map, in cells. rows, columns: of each block of the grid, in cells. The blocks
    together cover the map. grid: rows and columns of blocks.
    """

    height: int
    width: int
    rows: int
    columns: int
    grid: tuple[int, int]

    @property
    def lanes(self) -> int:
        """The number of blocks, which is that of a vector's lanes."""
        return self.grid[0] * self.grid[1]

    @property
    def whole(self) -> bool:
        """Whether no block extends beyond the map's edge."""
        return (self.height, self.width) == (self.rows * self.grid[0], self.columns * self.grid[1])


@dataclass(frozen=True)
class Place:
    """A map's place in the arena, in floats.

    offset: of the first cell. pitch: from row to row. plane: from channel to channel. halo: in cells.
    step: from image to image of a batch; 0 for a map that all images use in turn.
    The order in memory is [row][channel][column][lane]: a row of all channels, then the next row.
    """

    cells: Cells
    offset: int
    pitch: int
    plane: int
    halo: int
    step: int = 0


@dataclass(frozen=True)
class Layout:
    """The places of all maps.

    floats, per_image: the arena has floats + batch x per_image. The raw maps of all images of a batch stay.
    """

    places: Mapping[Map, Place]
    floats: int
    per_image: int


def choose_grid(height: int, width: int, lanes: int = LANES) -> tuple[int, int]:
    """Return the grid of blocks with the fewest unused cells, for a map of height x width cells."""
    return min(GRIDS_OF[lanes], key=lambda grid: -(-height // grid[0]) * -(-width // grid[1]))


def lay_out(graph: Graph, height: int, width: int, lanes: int = LANES) -> Layout:
    """Return a place for each map. Maps that are not needed at the same time can share memory.

    The raw maps come last, those of one image after those of another, since a caller reads them later.

    height, width: of the images, multiples of graph.largest. lanes: in a vector, 4, 8 or 16.
    Raises InputError where a map is too small for the halo that a convolution needs.
    """
    cells = _Sizes(graph.largest, height, width, lanes)
    halos = _halos(graph)
    lives = _lives(graph)
    homes = {home: cells.of(home.shrink) for home in lives}
    sizes = {home: _sizes(homes[home], halos.get(home, 0), home.channels) for home in lives}
    spans = {home: sizes[home][0] * (homes[home].rows + 2 * halos.get(home, 0)) for home in lives}
    kept = dict.fromkeys(one.home()[0] for one in graph.outputs)
    offsets, floats = _pack({home: span for home, span in spans.items() if home not in kept}, lives)
    begins = accumulate((spans[home] for home in kept), initial=floats)
    offsets |= zip(kept, begins, strict=False)
    per_image = sum(spans[home] for home in kept)
    places = {}
    for one in maps_of(graph):
        home, first = one.home()
        pitch, plane = sizes[home]
        halo = halos.get(home, 0)
        begin = offsets[home] + first * plane + halo * (pitch + lanes)
        places[one] = Place(homes[home], begin, pitch, plane, halo, per_image if home in kept else 0)
    return Layout(places, floats, per_image)


def place_alone(cells: Cells, halo: int) -> Place:
    """Return the place of one channel in a separate array. Raises InputError where lay_out does."""
    pitch = _plane(cells, halo)
    return Place(cells, halo * (pitch + cells.lanes), pitch, pitch * (cells.rows + 2 * halo), halo)


def halo_moves(place: Place, reach: int) -> np.ndarray:
    """Return int32 [n, 3]: the offset of each halo vector in a plane, its source's offset, the shift case.

    Sorted by case, because the CPU predicts a branch best if it goes the same way as the time before.
    """
    cells = place.cells
    moves = []
    for y in range(-reach, cells.rows + reach):
        for x in range(-reach, cells.columns + reach):
            down, right = y // cells.rows, x // cells.columns
            if (down, right) == (0, 0):
                continue
            source = (y - down * cells.rows) * place.pitch + (x - right * cells.columns) * cells.lanes
            moves.append((y * place.pitch + x * cells.lanes, source, shift_case(cells.grid, down, right)))
    moves.sort(key=lambda move: move[2])
    return np.array(moves, np.int32).reshape(-1, 3)


def edge_floats(place: Place) -> np.ndarray:
    """Return int32 [n]: the offsets in a plane of cells that lie beyond the map's edge."""
    cells = place.cells
    if cells.whole:
        return np.zeros(0, np.int32)
    lane = np.arange(cells.lanes)
    y = np.arange(cells.rows)[:, None, None] + lane // cells.grid[1] * cells.rows
    x = np.arange(cells.columns)[None, :, None] + lane % cells.grid[1] * cells.columns
    beyond = (y >= cells.height) | (x >= cells.width)
    row, column, lane = beyond.nonzero()
    return (row * place.pitch + column * cells.lanes + lane).astype(np.int32)


def cell_floats(place: Place) -> np.ndarray:
    """Return int32 [height x width]: the offset in a plane of each cell of the map, row by row."""
    cells = place.cells
    y, x = np.arange(cells.height)[:, None], np.arange(cells.width)
    lane = y // cells.rows * cells.grid[1] + x // cells.columns
    return (y % cells.rows * place.pitch + x % cells.columns * cells.lanes + lane).astype(np.int32).ravel()


@dataclass(frozen=True)
class _Sizes:
    largest: int
    height: int
    width: int
    lanes: int

    def of(self, shrink: int) -> Cells:
        """Return the size of a map with this stride.

        All maps are divided along the same lines: those of the map with the largest stride.
        """
        coarse = self.height // self.largest, self.width // self.largest
        grid = choose_grid(*coarse, self.lanes)
        rows, columns = (-(-side // blocks) for side, blocks in zip(coarse, grid, strict=True))
        finer = self.largest // shrink
        return Cells(self.height // shrink, self.width // shrink, rows * finer, columns * finer, grid)


def _halos(graph: Graph) -> dict[Map, int]:
    """Return the halo width that each outermost map needs."""
    halos: dict[Map, int] = {}
    for step in graph.steps:
        if isinstance(step, Convolution) and step.reach > 0:
            home = step.source.home()[0]
            halos[home] = max(halos.get(home, 0), step.reach)
    return halos


def _lives(graph: Graph) -> dict[Map, tuple[int, int]]:
    """Return, for each outermost map, the first step that writes it and the last step that reads it."""
    lives: dict[Map, tuple[int, int]] = {graph.image.home()[0]: (-1, 0)}
    for index, step in enumerate(graph.steps):
        for one in maps_in(step):
            home = one.home()[0]
            lives[home] = (lives.get(home, (index,))[0], index)
    for one in graph.outputs:
        home = one.home()[0]
        lives[home] = (lives[home][0], len(graph.steps))
    return lives


def _sizes(cells: Cells, halo: int, channels: int) -> tuple[int, int]:
    """Return pitch and plane in floats.

    A row holds all channels, to keep the channels of a tile close together.
    """
    plane = _plane(cells, halo)
    lines = -(-channels * plane // LINE_FLOATS)
    lines += (ROW_SHIFT - lines) % CACHE_SETS
    return lines * LINE_FLOATS, plane


def _plane(cells: Cells, halo: int) -> int:
    if max(-(-halo // cells.rows), -(-halo // cells.columns)) > REACH:
        raise InputError(
            f"a map of {cells.height} x {cells.width} cells is too small for the sparse engine: give a "
            "larger `imgsz`, or `engine` torch"
        )
    return (cells.columns + 2 * halo) * cells.lanes


def _pack(sizes: Mapping[Map, int], lives: Mapping[Map, tuple[int, int]]) -> tuple[dict[Map, int], int]:
    """Return each map's offset, and the total size.

    Maps that are needed at the same time do not overlap. Large maps come first, each at the lowest
    free offset.
    """
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
