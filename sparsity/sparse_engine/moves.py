"""Copies vectors: unchanged, or with the lanes shifted to the neighbouring blocks."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from sparsity.sparse_engine.emit import INT64, LANES, constant, data_of, load, shuffled, store
from sparsity.sparse_engine.machine import GRIDS

REACH = 2
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
    for lane in range(LANES):
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

    case: a number from shift_case. low: lanes without a source become 0 where low is 0, -inf otherwise.
    """
    signature = types.void(memory, types.int64, types.int64, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        vector = load(builder, data, arguments[2])
        fill = builder.select(
            builder.icmp_signed("!=", arguments[4], INT64(0)), constant(-np.inf), constant(0)
        )
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

    A lane becomes nan where either is nan.
    """
    signature = types.void(memory, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        mine, theirs = (load(builder, data, place) for place in arguments[1:])
        kept = builder.or_(
            builder.fcmp_ordered(">=", mine, theirs), builder.fcmp_unordered("uno", mine, mine)
        )
        store(builder, builder.select(kept, mine, theirs), data, arguments[1])
        return context.get_dummy_value()

    return signature, generate
