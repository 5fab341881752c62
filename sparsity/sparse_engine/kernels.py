"""The operations of a program, and the loop in which threads run them. numba compiles this module.

Maps are stored in one array, the arena, as [row][channel][column][lane]. A map is divided into a grid of
blocks, and lane l of a vector holds a cell of block l. A step to the next cell is therefore a step to the
next vector, in all blocks at once. The rows and columns just outside a block's border (the halo) are copies
of those of the neighbouring blocks. In a packed arena (see packing), each channel here is two or
four channels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sparsity.sparse_engine.arrays import LINE_LONGS
from sparsity.sparse_engine.attention import attend
from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.machine import OPTIONS
from sparsity.sparse_engine.moves import (
    clear,
    copy_number,
    keep_larger,
    move,
    move_shifted,
    pack_rows,
    set_edge,
)
from sparsity.sparse_engine.operations import At, Conv, Halo, Kind, Move, Whole
from sparsity.sparse_engine.threads import add_atomically, pause, read_atomically
from sparsity.sparse_engine.tiles import convolve_tile
from sparsity.sparse_engine.transpose import lanes_to_rows, rows_to_lanes

COUNTERS = 2 * LINE_LONGS
"""Number of int64 values for each operation on an image: two counters, each in a separate cache line."""


@njit(inline="always", **OPTIONS)
def _source(op, image, channel):  # noqa: ANN001, ANN202
    return op[At.SOURCE] + image * op[At.SOURCE_STEP] + channel * op[At.SOURCE_PLANE]


@njit(inline="always", **OPTIONS)
def _result(op, image, channel):  # noqa: ANN001, ANN202
    return op[At.RESULT] + image * op[At.RESULT_STEP] + channel * op[At.RESULT_PLANE]


@njit(inline="always", **OPTIONS)
def _convolve(op, item, image, memory, values, offsets, starts, sums, slopes):  # noqa: ANN001, ANN202
    """Compute one tile, or one span of its outputs. item: tile * spans + span."""
    spans, blocks, outputs = op[Conv.SPANS], op[Conv.BLOCKS], op[At.CHANNELS]
    height, width, stride = op[Conv.TILE_ROWS], op[Conv.TILE_COLUMNS], op[Conv.STRIDE]
    tile, span = item // spans, item % spans
    across = (op[At.COLUMNS] + width - 1) // width
    # A tile that would extend beyond the edge begins earlier, and computes some cells again.
    row = min(tile // across * height, op[At.ROWS] - height)
    column = min(tile % across * width, op[At.COLUMNS] - width)
    groups = outputs // op[Conv.GROUP]
    first, last = groups * span // spans, groups * (span + 1) // spans
    begin, end = first * op[Conv.GROUP], last * op[Conv.GROUP]
    source = op[At.SOURCE] + image * op[At.SOURCE_STEP]
    source += row * stride * op[At.SOURCE_PITCH] + column * stride * LANES
    channel = begin // op[Conv.SHARED]
    result = op[At.RESULT] + image * op[At.RESULT_STEP]
    result += row * op[At.RESULT_PITCH] + column * LANES + channel * op[At.RESULT_PLANE]
    residual = np.int64(-1)
    if op[Conv.RESIDUAL] >= 0:
        inside = image * op[Conv.RESIDUAL_STEP] + row * op[Conv.RESIDUAL_PITCH] + column * LANES
        residual = op[Conv.RESIDUAL] + inside + channel * op[Conv.RESIDUAL_PLANE]
    for block in range(blocks):
        convolve_tile(
            op[Conv.SHAPE],
            memory,
            source,
            op[At.SOURCE_PITCH],
            values,
            offsets,
            starts,
            op[Conv.STARTS] + (block * groups + first) * op[Conv.STREAMS],
            op[Conv.BIAS] + begin,
            end - begin,
            sums,
            np.int64(block == 0),
            np.int64(block == blocks - 1),
            result,
            op[At.RESULT_PITCH],
            op[At.RESULT_PLANE],
            residual,
            op[Conv.RESIDUAL_PITCH],
            op[Conv.RESIDUAL_PLANE],
            op[Conv.ACTIVATION],
            slopes[op[Conv.SLOPE]],
            np.int64(op[Conv.SHARED] == 1),
            outputs,
        )


@njit(**OPTIONS)
def _move(op, image, channel, memory):  # noqa: ANN001, ANN202
    step, shift = op[Move.STEP], op[Move.SHIFT]
    source = _source(op, image, channel)
    result = _result(op, image, channel)
    for y in range(op[At.ROWS]):
        begin = source + ((y * step >> shift) + op[Move.ROW]) * op[At.SOURCE_PITCH]
        for x in range(op[At.COLUMNS]):
            column = (x * step >> shift) + op[Move.COLUMN]
            move(memory, result + y * op[At.RESULT_PITCH] + x * LANES, memory, begin + column * LANES)


@njit(**OPTIONS)
def _fill_halo(op, memory, plane, moves, edges, low):  # noqa: ANN001, ANN202
    """Overwrite the cells beyond the map's edge, then fill the halo.

    low: 0 to set cells beyond the edge to 0, 1 to set them to -inf. plane: the offset of the channel's first
    cell. moves: int32 [n, 3], the offsets of result and source, and the shift case.
    """
    for i in range(op[Halo.EDGES], op[Halo.EDGES] + op[Halo.EDGE_COUNT]):
        set_edge(memory, plane + edges[i], low)
    for i in range(op[Halo.MOVES], op[Halo.MOVES] + op[Halo.MOVE_COUNT]):
        move_shifted(memory, plane + moves[i, 0], plane + moves[i, 1], np.int64(moves[i, 2]), low)


@njit(**OPTIONS)
def _scatter_row(op, y, cells, place, memory, to):  # noqa: ANN001, ANN202
    """Copy row y of a channel's cells from rows into lanes. Lanes beyond the map's edge become 0.

    cells: float32, the maps row by row. place: the offset of the channel in cells. to: the offset in memory.
    """
    rows, columns, height, width = op[At.ROWS], op[At.COLUMNS], op[Whole.HEIGHT], op[Whole.WIDTH]
    across = op[Whole.GRID_COLUMNS]
    whole = rows * op[Whole.GRID_ROWS] == height and columns * across == width
    if whole and columns >= LANES:
        for x in range(0, columns, LANES):
            first = min(x, columns - LANES)
            begin = place + y * width + first
            rows_to_lanes(cells, begin, rows * width, columns, across, memory, to + first * LANES)
    else:
        for lane in range(LANES):
            row, left = lane // across * rows + y, lane % across * columns
            inside = min(max(width - left, 0), columns) if row < height else 0
            begin = place + row * width + left
            for x in range(inside):
                copy_number(memory, to + x * LANES + lane, cells, begin + x)
            for x in range(inside, columns):
                clear(memory, to + x * LANES + lane)


@njit(**OPTIONS)
def _gather(op, memory, plane, pitch, cells, place):  # noqa: ANN001, ANN202
    """Copy a channel's cells from lanes back into rows: the inverse of _scatter_row for all rows."""
    rows, columns, height, width = op[At.ROWS], op[At.COLUMNS], op[Whole.HEIGHT], op[Whole.WIDTH]
    across = op[Whole.GRID_COLUMNS]
    whole = rows * op[Whole.GRID_ROWS] == height and columns * across == width
    for y in range(rows):
        begin = plane + y * pitch
        if whole and columns >= LANES:
            for x in range(0, columns, LANES):
                first = min(x, columns - LANES)
                to = place + y * width + first
                lanes_to_rows(memory, begin + first * LANES, cells, to, rows * width, columns, across)
        else:
            for lane in range(LANES):
                row, left = lane // across * rows + y, lane % across * columns
                inside = min(max(width - left, 0), columns) if row < height else 0
                for x in range(inside):
                    copy_number(cells, place + row * width + left + x, memory, begin + x * LANES + lane)


@njit(inline="always", **OPTIONS)
def _input(op, image, channel, memory, scratch, images, slopes):  # noqa: ANN001, ANN202
    """Copy a channel of an image into the arena; into a packed one, several channels, or some and zeros."""
    cells, depth, share = op[Whole.HEIGHT] * op[Whole.WIDTH], op[Whole.DEPTH], op[Whole.SHARED]
    place = op[Whole.IMAGE] + (image * depth + channel * share) * cells
    row = op[At.COLUMNS] * LANES
    for y in range(op[At.ROWS]):
        to = _result(op, image, channel) + y * op[At.RESULT_PITCH]
        _scatter_row(op, y, images, place, memory, to)
        for other in range(1, share):
            if channel * share + other < depth:
                _scatter_row(op, y, images, place + other * cells, scratch, (other - 1) * row)
            else:
                for x in range(row):
                    clear(scratch, (other - 1) * row + x)
        if share > 1:
            for x in range(0, row, LANES):
                pack_rows(memory, to + x, scratch, x, row, slopes[op[Whole.SCALE]])


@njit(inline="always", **OPTIONS)
def _output(op, image, channel, memory, maps):  # noqa: ANN001, ANN202
    place = op[Whole.IMAGE] + (image * op[Whole.DEPTH] + channel) * op[Whole.HEIGHT] * op[Whole.WIDTH]
    _gather(op, memory, _source(op, image, channel), op[At.SOURCE_PITCH], maps, place)


@njit(**OPTIONS)
def _pool(op, image, channel, memory, scratch, moves, edges):  # noqa: ANN001, ANN202
    """Max-pool a channel. Cells outside the map do not count.

    The channel is copied into scratch with a halo, which is -inf beyond the map's edge. moves and edges hold
    offsets in scratch. Behind this copy, scratch holds the maxima along each row.
    """
    rows, columns, reach = op[At.ROWS], op[At.COLUMNS], op[Halo.REACH]
    pitch = (columns + 2 * reach) * LANES
    inner, across = reach * (pitch + LANES), (rows + 2 * reach) * pitch
    _copy_plane(op, memory, _source(op, image, channel), scratch, inner, pitch)
    _fill_halo(op, scratch, inner, moves, edges, 1)
    for y in range(rows + 2 * reach):
        for x in range(columns):
            place = y * pitch + x * LANES
            move(scratch, across + place, scratch, place)
            for step in range(1, 2 * reach + 1):
                keep_larger(scratch, across + place, place + step * LANES)
    result = _result(op, image, channel)
    for y in range(rows):
        for x in range(columns):
            place = across + y * pitch + x * LANES
            for step in range(1, 2 * reach + 1):
                keep_larger(scratch, place, place + step * pitch)
            move(memory, result + y * op[At.RESULT_PITCH] + x * LANES, scratch, place)


@njit(**OPTIONS)
def _copy_plane(op, memory, source, to, place, pitch):  # noqa: ANN001, ANN202
    for y in range(op[At.ROWS]):
        for x in range(op[At.COLUMNS]):
            move(to, place + y * pitch + x * LANES, memory, source + y * op[At.SOURCE_PITCH] + x * LANES)


@njit(inline="always", **OPTIONS)
def _run_item(op, item, image, memory, sums, scratch, images, maps, tables):  # noqa: ANN001, ANN202
    values, offsets, starts, slopes, moves, edges = tables
    kind = op[At.KIND]
    if kind == Kind.CONVOLVE:
        _convolve(op, item, image, memory, values, offsets, starts, sums, slopes)
        return
    if kind == Kind.ATTEND:
        attend(op, item, image, memory, values, edges, sums)
        return
    begin = item * op[At.PER_ITEM]
    for channel in range(begin, min(begin + op[At.PER_ITEM], op[At.CHANNELS])):
        if kind == Kind.MOVE:
            _move(op, image, channel, memory)
        elif kind == Kind.HALO:
            _fill_halo(op, memory, _result(op, image, channel), moves, edges, 0)
        elif kind == Kind.POOL:
            _pool(op, image, channel, memory, scratch, moves, edges)
        elif kind == Kind.INPUT:
            _input(op, image, channel, memory, scratch, images, slopes)
        else:
            _output(op, image, channel, memory, maps)


@njit(**OPTIONS)
def _wait(counters, place, threads):  # noqa: ANN001, ANN202
    """Wait until all threads have reached this point."""
    add_atomically(counters, place, 1)
    spins = 0
    while read_atomically(counters, place) < threads:
        pause(spins)
        spins += 1


def run_program(  # noqa: ANN201
    program,  # noqa: ANN001
    threads,  # noqa: ANN001
    counters,  # noqa: ANN001
    batch,  # noqa: ANN001
    memory,  # noqa: ANN001
    sums,  # noqa: ANN001
    scratch,  # noqa: ANN001
    images,  # noqa: ANN001
    maps,  # noqa: ANN001
    tables,  # noqa: ANN001
):
    """Run a program on a batch, image by image. Every thread calls this, and the threads share the items.

    program: int64 [operations, WIDTH]. threads: how many call this.
    counters: int64 zeros, COUNTERS values for each operation on each image, shared by the threads.
    memory: aligned: the arena, shared (see packing). sums, scratch: one of each per thread; sums float32,
    scratch of memory's type.
    images, maps: float32, all images and all raw maps.
    tables: float32 weights, int32 offsets, int64 starts, float32 slopes, int32 moves [n, 3] and int32 edges.
    Weights include biases and scales; edges include the offsets of all cells of some maps.
    """
    for image in range(batch):
        for index in range(len(program)):
            op = program[index]
            place = (image * len(program) + index) * COUNTERS
            item = add_atomically(counters, place, 1)
            while item < op[At.ITEMS]:
                _run_item(op, item, image, memory, sums, scratch, images, maps, tables)
                item = add_atomically(counters, place, 1)
            if threads > 1:
                _wait(counters, place + LINE_LONGS, threads)
