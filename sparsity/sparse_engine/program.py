"""Translates a graph, for images of one size, into a program for threads and the tables that it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sparsity.base.errors import InputError
from sparsity.sparse_engine.attention import count_blocks, scratch_floats
from sparsity.sparse_engine.choices import Choice, Task, choose, count_tiles, task_of
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Moving, Pooling, Step
from sparsity.sparse_engine.layout import (
    Layout,
    Place,
    cell_floats,
    edge_floats,
    halo_moves,
    lay_out,
    place_alone,
)
from sparsity.sparse_engine.operations import WIDTH, At, Attend, Conv, Halo, Kind, Move, Whole
from sparsity.sparse_engine.packing import Packing
from sparsity.sparse_engine.streams import Stream, make_groups, make_stream
from sparsity.sparse_engine.tiles import Kernel, kernels

IMAGE_CHANNELS = 3
PIECES = 4
"""Work items per thread, for operations that work channel by channel."""


class Tables(NamedTuple):
    """The data that operations read, in addition to the arena (see kernels.run_program)."""

    values: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    slopes: np.ndarray
    moves: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class Program:
    """A program for images of one size.

    rows: int64 [operations, WIDTH]. names: one per operation. tasks, choices: of the convolutions, by row.
    copying: rows that copy the raw maps out of the arena, for one image (see for_batch).
    places: of the raw maps, in floats. floats, per_image: the arena has floats + batch x per_image.
    sums, scratch: the sizes of these arrays, one of each per thread. Attention works in sums, too.
    outputs: (channels, height, width) of each raw map. pixels: the number of values in an image.
    packing: of the maps in the arena.
    """

    rows: np.ndarray
    copying: np.ndarray
    places: tuple[Place, ...]
    names: tuple[str, ...]
    tasks: Mapping[int, Task]
    choices: Mapping[int, Choice]
    tables: Tables
    floats: int
    per_image: int
    sums: int
    scratch: int
    outputs: tuple[tuple[int, int, int], ...]
    pixels: int
    packing: Packing

    def for_batch(self, batch: int) -> np.ndarray:
        """Return copying, with the offsets of the raw maps of a batch of this size."""
        rows = self.copying.copy()
        rows[:, Whole.IMAGE] *= batch
        return rows


def make_program(
    graph: Graph,
    height: int,
    width: int,
    threads: int,
    choices: Mapping[Task, Choice] | None = None,
) -> Program:
    """Return the program for images of height x width.

    choices: measured choices; those of other tasks are estimated.
    """
    layout = lay_out(graph, height, width)
    maker = _Maker(layout, threads, choices or {}, graph.packing)
    maker.add_input(graph.image, graph.pixel)
    for step in graph.steps:
        maker.add_step(step)
    for one, depth in zip(graph.outputs, graph.depths, strict=True):
        maker.add_output(one, depth)
    places = tuple(layout.places[one] for one in graph.outputs)
    return maker.program(IMAGE_CHANNELS * height * width, places)


@dataclass(eq=False)
class _Maker:
    layout: Layout
    threads: int
    given: Mapping[Task, Choice]
    packing: Packing
    rows: list[np.ndarray] = field(default_factory=list)
    copying: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    tasks: dict[int, Task] = field(default_factory=dict)
    choices: dict[int, Choice] = field(default_factory=dict)
    values: list[np.ndarray] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    starts: list[np.ndarray] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    moves: list[np.ndarray] = field(default_factory=list)
    edges: list[np.ndarray] = field(default_factory=list)
    outputs: list[tuple[int, int, int]] = field(default_factory=list)
    haloed: set[Map] = field(default_factory=set)
    sums: int = 0
    scratch: int = 0

    def add_input(self, image: Map, pixel: float) -> None:
        place = self.layout.places[image]
        row = self._add(Kind.INPUT, "input", image, None, image)
        row[list(_WHOLE)] = _whole(place, IMAGE_CHANNELS)
        row[[Whole.SHARED, Whole.SCALE]] = self.packing.share, len(self.slopes)
        self.slopes.append(pixel)
        # Scratch holds a row of each channel but the first that share a number.
        self.scratch = max(self.scratch, (self.packing.share - 1) * place.cells.columns * LANES)

    def add_output(self, one: Map, depth: int) -> None:
        """Add the operation that copies the first depth channels of a raw map out of the arena."""
        cells = self.layout.places[one].cells
        row = self._row(Kind.OUTPUT, one, one, None)
        self.copying.append(row)
        row[list(_WHOLE)] = _whole(self.layout.places[one], depth)
        row[At.CHANNELS] = depth
        row[Whole.IMAGE] = sum(math.prod(sizes) for sizes in self.outputs)
        self.outputs.append((depth, cells.height, cells.width))

    def add_step(self, step: Step) -> None:
        if isinstance(step, Convolution):
            if step.reach:
                self._add_halo(step.source)
            self._add_convolution(step)
        elif isinstance(step, Moving):
            row = self._add(Kind.MOVE, "move", step.result, step.source, step.result)
            row[[Move.STEP, Move.SHIFT, Move.ROW, Move.COLUMN]] = step.step, step.shift, step.row, step.column
        elif isinstance(step, Attention):
            self._add_attention(step)
        else:
            self._add_pool(step)

    def _add_attention(self, step: Attention) -> None:
        source, result = (self.layout.places[one] for one in (step.source, step.result))
        cells, apart = cells_of_area(step, source), step.heads * step.areas
        row = self._add(Kind.ATTEND, "attention", step.result, step.source, step.result)
        spans = 1
        if self.threads > 1:
            spans = min(count_blocks(cells), math.ceil(PIECES * self.threads / apart))
        row[At.ITEMS] = apart * spans
        row[[Attend.HEADS, Attend.KEYS, Attend.VALUES]] = step.heads, step.keys, step.values
        row[[Attend.AREAS, Attend.CELLS, Attend.SPANS]] = step.areas, cells, spans
        row[Attend.SHARED], row[Attend.SCALES] = self.packing.share, sum(map(len, self.values))
        scales = np.concatenate([step.key_scales, step.value_scales])
        self.values.append(scales)
        self.offsets.append(np.zeros(len(scales), np.int32))
        for place, column in ((source, Attend.SOURCE_CELLS), (result, Attend.RESULT_CELLS)):
            row[column] = sum(map(len, self.edges))
            self.edges.append(cell_floats(place))
        self.sums = max(self.sums, scratch_floats(cells, step.keys, step.values))

    def _add_pool(self, step: Pooling) -> None:
        row = self._add(Kind.POOL, f"max pool {step.kernel}", step.result, step.source, step.result)
        row[Halo.REACH] = reach = step.kernel // 2
        padded = place_alone(self.layout.places[step.result].cells, reach)
        self._add_moves(row, padded, reach)
        self.scratch = max(self.scratch, 2 * (padded.cells.rows + 2 * reach) * padded.pitch)

    def _add_halo(self, source: Map) -> None:
        """Add the operation that fills the halo of a map, once per map."""
        if source not in self.haloed:
            self.haloed.add(source)
            place = self.layout.places[source]
            self._add_moves(self._add(Kind.HALO, "halo", source, None, source), place, place.halo)

    def _add_moves(self, row: np.ndarray, place: Place, reach: int) -> None:
        moves, edges = halo_moves(place, reach), edge_floats(place)
        row[[Halo.MOVES, Halo.MOVE_COUNT]] = sum(map(len, self.moves)), len(moves)
        row[[Halo.EDGES, Halo.EDGE_COUNT]] = sum(map(len, self.edges)), len(edges)
        self.moves.append(moves)
        self.edges.append(edges)

    def _add_convolution(self, step: Convolution) -> None:
        places = self.layout.places
        residual = None if step.residual is None else places[step.residual]
        source, result = places[step.source], places[step.result]
        task = task_of(step, result.cells, self.threads)
        choice = self.given.get(task) or choose(task)
        if choice.group > 1:
            stream = make_groups(step, source, choice.block, choice.group)
        else:
            stream = make_stream(step, source, choice.block)
        row = self._add(Kind.CONVOLVE, step.name, step.result, step.source, step.result)
        index = len(self.rows) - 1
        self.tasks[index], self.choices[index] = task, choice
        row[At.ITEMS] = count_tiles(task, choice.tile) * choice.spans
        row[[Conv.TILE_ROWS, Conv.TILE_COLUMNS]] = choice.tile
        kernel = Kernel(*choice.tile, step.stride, choice.group, step.packing)
        row[Conv.SHAPE] = kernels(step.packing).index(kernel)
        row[[Conv.STRIDE, Conv.SPANS, Conv.BLOCKS]] = step.stride, choice.spans, stream.blocks
        row[[Conv.ACTIVATION, Conv.SLOPE]] = step.activation, len(self.slopes)
        row[[Conv.GROUP, Conv.STREAMS, Conv.SHARED]] = kernel.outputs, kernel.streams, step.shared
        row[At.CHANNELS] = len(step.weight)
        row[_RESIDUAL] = (-1, 0, 0, 0) if residual is None else _where(residual)
        self.slopes.append(step.slope)
        self._add_stream(row, stream, np.concatenate([step.bias, step.scales.reshape(-1)]))
        self.sums = max(self.sums, len(step.weight) * math.prod(choice.tile) * LANES)

    def _add_stream(self, row: np.ndarray, stream: Stream, bias: np.ndarray) -> None:
        """Add biases, followed by scales if there are any, then weights.

        values and offsets have equal length, so one index finds a weight and its offset.
        """
        begin = sum(map(len, self.values))
        row[Conv.BIAS], row[Conv.STARTS] = begin, sum(map(len, self.starts))
        self.values += [bias, stream.values]
        self.offsets += [np.zeros(len(bias), np.int32), stream.offsets]
        self.starts.append(stream.starts + begin + len(bias))

    def _add(self, kind: Kind, name: str, shape: Map, source: Map | None, result: Map | None) -> np.ndarray:
        """Add a row with the columns of all operations. shape: the map whose cells and channels it covers."""
        row = self._row(kind, shape, source, result)
        self.rows.append(row)
        self.names.append(name)
        return row

    def _row(self, kind: Kind, shape: Map, source: Map | None, result: Map | None) -> np.ndarray:
        row = np.zeros(WIDTH, np.int64)
        cells = self.layout.places[shape].cells
        per_item = math.ceil(shape.channels / (PIECES * self.threads)) if self.threads > 1 else shape.channels
        row[[At.KIND, At.ITEMS]] = kind, math.ceil(shape.channels / per_item)
        row[[At.ROWS, At.COLUMNS]] = cells.rows, cells.columns
        row[[At.CHANNELS, At.PER_ITEM]] = shape.channels, per_item
        for one, columns in ((source, _SOURCE), (result, _RESULT)):
            if one is not None:
                row[columns] = _where(self.layout.places[one])
        return row

    def program(self, pixels: int, places: tuple[Place, ...]) -> Program:
        """Return the program of all operations that were added. places: of the raw maps."""
        tables = Tables(
            _joined(self.values, np.float32),
            _joined(self.offsets, np.int32),
            _joined(self.starts, np.int64),
            np.array(self.slopes, np.float32),
            np.concatenate([np.zeros((0, 3), np.int32), *self.moves]),
            _joined(self.edges, np.int32),
        )
        return Program(
            rows=np.stack(self.rows),
            copying=np.stack(self.copying),
            places=places,
            names=tuple(self.names),
            tasks=self.tasks,
            choices=self.choices,
            tables=tables,
            floats=self.layout.floats,
            per_image=self.layout.per_image,
            sums=self.sums,
            scratch=self.scratch,
            outputs=tuple(self.outputs),
            pixels=pixels,
            packing=self.packing,
        )


_SOURCE = [At.SOURCE, At.SOURCE_PITCH, At.SOURCE_PLANE, At.SOURCE_STEP]
_RESULT = [At.RESULT, At.RESULT_PITCH, At.RESULT_PLANE, At.RESULT_STEP]
_RESIDUAL = [Conv.RESIDUAL, Conv.RESIDUAL_PITCH, Conv.RESIDUAL_PLANE, Conv.RESIDUAL_STEP]
_WHOLE = (Whole.HEIGHT, Whole.WIDTH, Whole.GRID_ROWS, Whole.GRID_COLUMNS, Whole.IMAGE, Whole.DEPTH)


def cells_of_area(step: Attention, place: Place) -> int:
    """Return how many cells each area of a map has."""
    height, width = place.cells.height, place.cells.width
    if height * width % step.areas:
        raise InputError(
            f"a map of {height} x {width} cells can't be cut into {step.areas} equal areas for attention: "
            "give another `imgsz`"
        )
    return height * width // step.areas


def _where(place: Place) -> tuple[int, int, int, int]:
    return place.offset, place.pitch, place.plane, place.step


def _whole(place: Place, depth: int) -> tuple[int, ...]:
    cells = place.cells
    return cells.height, cells.width, *cells.grid, 0, depth


def _joined(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)
