"""Copies vectors: unchanged, or with the lanes shifted to the neighbouring blocks."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sparsity.sparse_engine.emit import (
    INT32,
    INT64,
    INT_VECTOR,
    LANES,
    VECTOR,
    data_of,
    load,
    shuffled,
    splat,
    store,
)
from sparsity.sparse_engine.machine import GRIDS
from sparsity.sparse_engine.packed import LOWEST_BITS, ZERO_BITS, larger, pack
from sparsity.sparse_engine.packing import FLOAT32, INT8, packing_of

REACH = 3
"""Maximum distance of a halo's source, in blocks."""
_SIDE = 2 * REACH + 1


def shift_case(grid: tuple[int, int], rows: int, columns: int) -> int:
    """Return the number of a shift, for move_shifted.

    Each lane takes its value from the block that is this many rows down and columns to the right in the grid.
    """
    return (GRIDS.index(grid) * _SIDE + rows + REACH) * _SIDE + columns + REACH


def shift_sources(grid: tuple[int, int], rows: int, columns: int) -> list[int]:
    """Return the source lane of each lane; -1 where there is no block.

    Lane i holds the block in row i // grid columns and column i % grid columns of the grid.
    """
    sources = []
    for lane in range(grid[0] * grid[1]):
        row, column = lane // grid[1] + rows, lane % grid[1] + columns
        inside = 0 <= row < grid[0] and 0 <= column < grid[1]
        sources.append(row * grid[1] + column if inside else -1)
    return sources


@intrinsic
def move(typingctx, to, result, memory, source):  # noqa: ANN001, ANN201
    """Copy the vector at offset source of memory to offset result of to (both float32)."""
    signature = types.void(to, types.int64, memory, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        to, memory = (data_of(context, builder, signature, arguments, place) for place in (0, 2))
        store(builder, load(builder, memory, arguments[3]), to, arguments[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def move_shifted(typingctx, memory, result, source, case, low):  # noqa: ANN001, ANN201
    """Copy a vector within memory, as move does, with its lanes shifted.

    case: a number from shift_case. low: lanes without a source become 0 where low is 0, the lowest otherwise.
    """
    signature = types.void(memory, types.int64, types.int64, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        vector = load(builder, data, arguments[2])
        bits = (LOWEST_BITS[packing_of(memory)], ZERO_BITS[packing_of(memory)])
        lowest, zeros = (ir.Constant(INT_VECTOR, [one] * LANES) for one in bits)
        chosen = builder.select(builder.icmp_signed("!=", arguments[4], INT64(0)), lowest, zeros)
        fill = builder.bitcast(chosen, VECTOR)
        done = builder.append_basic_block("shifted")
        switch = builder.switch(arguments[3], done)
        for grid in GRIDS:
            for rows in range(-REACH, REACH + 1):
                for columns in range(-REACH, REACH + 1):
                    with builder.goto_block(builder.append_basic_block("shift")):
                        switch.add_case(INT64(shift_case(grid, rows, columns)), builder.block)
                        moved = shuffled(builder, vector, fill, shift_sources(grid, rows, columns))
                        store(builder, moved, data, arguments[1])
                        builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def keep_larger(typingctx, memory, result, other):  # noqa: ANN001, ANN201
    """Set the vector at offset result of memory to the elementwise maximum of itself and the one at other.

    A lane becomes nan where either is nan. In a packed arena, each channel is compared.
    """
    signature = types.void(memory, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        mine, theirs = (load(builder, data, place) for place in arguments[1:])
        store(builder, larger(builder, packing_of(memory), mine, theirs), data, arguments[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def set_edge(typingctx, memory, place, low):  # noqa: ANN001, ANN201
    """Set one lane at offset place of memory, beyond a map's edge: to 0, or to the lowest if low is not 0."""
    signature = types.void(memory, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        lowest, zero = (INT32(bits[packing_of(memory)]) for bits in (LOWEST_BITS, ZERO_BITS))
        value = builder.select(builder.icmp_signed("!=", arguments[2], INT64(0)), lowest, zero)
        builder.store(value, builder.bitcast(builder.gep(data, [arguments[1]]), INT32.as_pointer()))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def clear(typingctx, memory, place):  # noqa: ANN001, ANN201
    """Set the 32 bits at offset place of memory to 0."""
    signature = types.void(memory, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        builder.store(INT32(0), builder.bitcast(builder.gep(data, [arguments[1]]), INT32.as_pointer()))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pack_rows(typingctx, memory, place, other, beside, pitch, scale):  # noqa: ANN001, ANN201
    """Pack float32 numbers: the vector at offset place of memory is the first channel.

    The other channels are vectors at offset beside of other, at beside + pitch, and so on.
    scale: what they are multiplied with for bytes.
    """
    signature = types.void(memory, types.int64, other, types.int64, types.int64, types.float32)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        packing = packing_of(memory)
        if packing is FLOAT32:  # It is never called there, but compiled.
            return context.get_dummy_value()
        data, rows = (data_of(context, builder, signature, arguments, place) for place in (0, 2))
        channels = [load(builder, data, arguments[1])]
        for number in range(packing.share - 1):
            step = builder.mul(arguments[4], INT64(number))
            channels.append(load(builder, rows, builder.add(arguments[3], step)))
        if packing is INT8:
            factor = splat(builder, arguments[5])
            channels = [builder.fmul(channel, factor) for channel in channels]
        store(builder, pack(builder, packing, channels), data, arguments[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_number(typingctx, to, result, source, place):  # noqa: ANN001, ANN201
    """Copy the 32 bits at offset place of source to offset result of to. Either is an arena or float32."""
    signature = types.void(to, types.int64, source, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        there, here = (data_of(context, builder, signature, arguments, place) for place in (0, 2))
        there, here = (
            builder.bitcast(builder.gep(data, [offset]), INT32.as_pointer())
            for data, offset in ((there, arguments[1]), (here, arguments[3]))
        )
        builder.store(builder.load(here), there)
        return context.get_dummy_value()

    return signature, generate
