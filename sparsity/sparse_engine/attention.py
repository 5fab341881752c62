"""Self-attention between the cells of a map. numba compiles this module.

A work item is a run of queries of one head in one area. The keys and values of that head and area are copied
from lanes into rows of cells. Queries are taken BLOCK at a time: vectors hold queries, and each key or value
is one number that multiplies them. So neither products nor softmax need sums within a vector.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsity.sparse_engine.emit import (
    INT64,
    LANES,
    LOG2_E,
    constant,
    data_of,
    load,
    multiply_add,
    power_of_two,
    splat,
    store,
)
from sparsity.sparse_engine.machine import MACHINE, OPTIONS
from sparsity.sparse_engine.moves import clear, copy_number
from sparsity.sparse_engine.operations import At, Attend
from sparsity.sparse_engine.packed import pack, unpack
from sparsity.sparse_engine.packing import packing_of

VECTORS = 2
"""Vectors of queries that are multiplied together."""
BLOCK = VECTORS * LANES
"""How many queries that are."""
ROWS = 8 if max(rows * columns for rows, columns in MACHINE.tiles) > 16 else 4
"""Keys or channels that multiply them together: their sums stay in registers."""
LOWEST = float("-inf")


def count_blocks(cells: int) -> int:
    """Return the number of blocks that this many queries fill."""
    return -(-cells // BLOCK)


def scratch_floats(cells: int, keys: int, values: int, *, block: int = BLOCK, together: int = ROWS) -> int:
    """Return how many floats attend needs in scratch. cells: in an area. keys, values: channels of a head.

    block: queries that are multiplied together. together: keys or channels that multiply them.
    """
    pitch, rows = -(-cells // block) * block, -(-values // together) * together
    return pitch * (keys + rows) + block * (keys + pitch + rows + 1)


@intrinsic
def _multiply(typingctx, scratch, to, factors, down, along, vectors, rows, depth):  # noqa: ANN001, ANN202
    """Multiply a matrix of single numbers by a matrix of vectors. All arguments but depth are in floats.

    Row i of the result, BLOCK floats, begins at to + i BLOCK. It is the sum over n < depth of the number at
    factors + i down + n along, times the BLOCK floats at vectors + n BLOCK. rows: a multiple of ROWS.
    """
    signature = types.void(scratch, *[types.int64] * 7)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        to, factors, down, along, vectors, rows, depth = arguments[1:]
        sums = [[cgutils.alloca_once(builder, constant(0).type) for _ in range(VECTORS)] for _ in range(ROWS)]
        step, one = INT64(ROWS), INT64(1)
        with cgutils.for_range_slice(builder, INT64(0), rows, step, intp=INT64) as (row, _):
            numbers = [
                builder.add(factors, builder.mul(builder.add(row, INT64(i)), down)) for i in range(ROWS)
            ]
            for registers in sums:
                for register in registers:
                    builder.store(constant(0), register)
            with cgutils.for_range_slice(builder, INT64(0), depth, one, intp=INT64) as (index, _):
                begin, inside = (
                    builder.add(vectors, builder.mul(index, INT64(BLOCK))),
                    builder.mul(index, along),
                )
                cells = _load_block(builder, data, begin)
                for number, registers in zip(numbers, sums, strict=True):
                    place = builder.gep(data, [builder.add(number, inside)])
                    factor = splat(builder, builder.load(place))
                    for cell, register in zip(cells, registers, strict=True):
                        builder.store(multiply_add(builder, factor, cell, builder.load(register)), register)
            for i, registers in enumerate(sums):
                place = builder.add(to, builder.mul(builder.add(row, INT64(i)), INT64(BLOCK)))
                _store_block(builder, data, place, [builder.load(register) for register in registers])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _exponentiate(typingctx, scratch, scores, count, to):  # noqa: ANN001, ANN202
    """Replace each score by its exponential, over the largest of its query; write 1 / their sums to `to`.

    scores: the offset in scratch of float32 [count, BLOCK], one column for each query. A nan makes all of
    its query nan.
    """
    signature = types.void(scratch, *[types.int64] * 3)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        _, scores, count, to = arguments
        most, sums = (
            [cgutils.alloca_once(builder, constant(0).type) for _ in range(VECTORS)] for _ in range(2)
        )
        for first, registers in ((LOWEST, most), (0.0, sums)):
            for register in registers:
                builder.store(constant(first), register)
        with cgutils.for_range_slice(builder, INT64(0), count, INT64(1), intp=INT64) as (index, _):
            place = builder.add(scores, builder.mul(index, INT64(BLOCK)))
            for score, register in zip(_load_block(builder, data, place), most, strict=True):
                before = builder.load(register)
                larger = builder.fcmp_ordered(">", score, before)
                builder.store(builder.select(larger, score, before), register)
        with cgutils.for_range_slice(builder, INT64(0), count, INT64(1), intp=INT64) as (index, _):
            place = builder.add(scores, builder.mul(index, INT64(BLOCK)))
            found = []
            for score, largest, total in zip(_load_block(builder, data, place), most, sums, strict=True):
                below = builder.fsub(score, builder.load(largest))
                power = power_of_two(builder, below, LOG2_E)
                power = builder.select(builder.fcmp_unordered("uno", below, below), below, power)
                builder.store(builder.fadd(builder.load(total), power), total)
                found.append(power)
            _store_block(builder, data, place, found)
        inverse = [builder.fdiv(constant(1), builder.load(total)) for total in sums]
        _store_block(builder, data, to, inverse)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _unpack_row(typingctx, memory, scratch, place, pitch):  # noqa: ANN001, ANN202
    """Unpack the vector at offset place of scratch: its channels come to place, place + pitch, and so on.

    memory: the arena, which says how channels are packed.
    """
    signature = types.void(memory, scratch, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        packing = packing_of(memory)
        data = data_of(context, builder, signature, arguments, 1)
        for number, channel in enumerate(unpack(builder, packing, load(builder, data, arguments[2]))):
            step = builder.mul(arguments[3], INT64(number))
            store(builder, channel, data, builder.add(arguments[2], step))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _pack_row(typingctx, memory, scratch, place, pitch):  # noqa: ANN001, ANN202
    """Do the inverse of _unpack_row, with the same arguments."""
    signature = types.void(memory, scratch, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        packing = packing_of(memory)
        data = data_of(context, builder, signature, arguments, 1)
        steps = [builder.mul(arguments[3], INT64(number)) for number in range(packing.share)]
        channels = [load(builder, data, builder.add(arguments[2], step)) for step in steps]
        store(builder, pack(builder, packing, channels), data, arguments[2])
        return context.get_dummy_value()

    return signature, generate


def _load_block(builder: ir.IRBuilder, data: ir.Value, place: ir.Value) -> list[ir.Value]:
    return [load(builder, data, builder.add(place, INT64(i * LANES))) for i in range(VECTORS)]


def _store_block(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, vectors: list[ir.Value]) -> None:
    for i, vector in enumerate(vectors):
        store(builder, vector, data, builder.add(place, INT64(i * LANES)))


@njit(**OPTIONS)
def _gather(op, memory, plane, channel, channels, cells, first, count, scratch, to, pitch):  # noqa: ANN001, ANN202
    """Copy channels of some cells into rows of scratch, one row for each channel, pitch floats apart.

    plane: the offset in memory of the map. cells[first + i]: the offset in a plane of cell i.
    """
    shared = op[Attend.SHARED]
    for number in range(0, channels, shared):
        begin = plane + (channel + number) // shared * op[At.SOURCE_PLANE]
        row = to + number * pitch
        for i in range(count):
            copy_number(scratch, row + i, memory, begin + cells[first + i])
        if shared > 1:
            for i in range(0, count, LANES):
                _unpack_row(memory, scratch, row + i, pitch)


@njit(**OPTIONS)
def _scatter(op, memory, plane, channel, cells, first, count, scratch, source, scales, total):  # noqa: ANN001, ANN202
    """Copy a head's sums back to some cells, multiplied by their scales and by what follows from total.

    plane: the offset in memory of the map. source: the offset in scratch of rows of BLOCK sums, one row for
    each channel. scales: of these channels. total: the offset of a factor for each cell.
    """
    shared = op[Attend.SHARED]
    for number in range(0, op[Attend.VALUES], shared):
        row = source + number * BLOCK
        for part in range(shared):
            for i in range(BLOCK):
                scratch[row + part * BLOCK + i] *= scales[number + part] * scratch[total + i]
        if shared > 1:
            for i in range(0, BLOCK, LANES):
                _pack_row(memory, scratch, row + i, BLOCK)
        begin = plane + (channel + number) // shared * op[At.RESULT_PLANE]
        for i in range(count):
            copy_number(memory, begin + cells[first + i], scratch, row + i)


@njit(**OPTIONS)
def attend(op, item, image, memory, values, cells, scratch):  # noqa: ANN001, ANN201
    """Compute a run of queries of one head in one area. item: (head x areas + area) x spans + span.

    values: holds scales. cells: holds offsets of cells. scratch: float32, aligned (see scratch_floats).
    """
    heads, keys, width, spans = op[Attend.HEADS], op[Attend.KEYS], op[Attend.VALUES], op[Attend.SPANS]
    span, area, head = item % spans, item // spans % op[Attend.AREAS], item // spans // op[Attend.AREAS]
    count = op[Attend.CELLS]
    blocks, rows = (count + BLOCK - 1) // BLOCK, (width + ROWS - 1) // ROWS * ROWS
    pitch = blocks * BLOCK
    of_keys, of_values = 0, keys * pitch
    queries = of_values + rows * pitch
    scores = queries + keys * BLOCK
    sums = scores + pitch * BLOCK
    total = sums + rows * BLOCK
    source = op[At.SOURCE] + image * op[At.SOURCE_STEP]
    result = op[At.RESULT] + image * op[At.RESULT_STEP]
    here, there = op[Attend.SOURCE_CELLS] + area * count, op[Attend.RESULT_CELLS] + area * count
    mine = op[Attend.SCALES] + head * keys
    _gather(op, memory, source, (heads + head) * keys, keys, cells, here, count, scratch, of_keys, pitch)
    begin = 2 * heads * keys + head * width
    _gather(op, memory, source, begin, width, cells, here, count, scratch, of_values, pitch)
    for block in range(blocks * span // spans, blocks * (span + 1) // spans):
        first = block * BLOCK
        size = min(BLOCK, count - first)
        _gather(op, memory, source, head * keys, keys, cells, here + first, size, scratch, queries, BLOCK)
        for channel in range(keys):
            for i in range(size):
                scratch[queries + channel * BLOCK + i] *= values[mine + channel]
            for i in range(size, BLOCK):
                clear(scratch, queries + channel * BLOCK + i)
        _multiply(scratch, scores, of_keys, 1, pitch, queries, pitch, keys)
        _exponentiate(scratch, scores, count, total)
        _multiply(scratch, sums, of_values, pitch, 1, scores, rows, count)
        place = op[Attend.SCALES] + heads * keys + head * width
        scales = values[place : place + width]
        _scatter(op, memory, result, head * width, cells, there + first, size, scratch, sums, scales, total)
