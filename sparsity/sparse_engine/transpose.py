"""Converts between rows of cells and vectors that hold one cell of each block."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sparsity.sparse_engine.emit import INT64, INT_VECTOR, LANES, data_of, load, store, vector_at

UNALIGNED = 4


@intrinsic
def rows_to_lanes(typingctx, rows, place, down, right, across, memory, to):  # noqa: ANN001, ANN201
    """Read LANES cells of each block from rows, and write them as LANES vectors.

    rows: float32. place: the offset of the first block's first cell.
    down, right: floats from a block to the one below it, and to the one on its right.
    across: blocks in a row of the grid. memory: the arena. to: the offset of the first vector in it.
    """
    signature = types.void(rows, *[types.int64] * 4, memory, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        base, memory = (data_of(context, builder, signature, arguments, place) for place in (0, 5))
        places = _block_places(builder, *arguments[1:5])
        lanes = [builder.load(vector_at(builder, base, place), align=UNALIGNED) for place in places]
        for index, vector in enumerate(_transposed(builder, lanes)):
            store(builder, vector, memory, builder.add(arguments[6], INT64(index * LANES)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def lanes_to_rows(typingctx, memory, source, rows, place, down, right, across):  # noqa: ANN001, ANN201
    """Do the inverse of rows_to_lanes, with the same arguments. source: the offset of the first vector."""
    signature = types.void(memory, types.int64, rows, *[types.int64] * 4)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        memory, base = (data_of(context, builder, signature, arguments, place) for place in (0, 2))
        places = _block_places(builder, *arguments[3:7])
        cells = [
            load(builder, memory, builder.add(arguments[1], INT64(index * LANES))) for index in range(LANES)
        ]
        for place, vector in zip(places, _transposed(builder, cells), strict=True):
            builder.store(vector, vector_at(builder, base, place), align=UNALIGNED)
        return context.get_dummy_value()

    return signature, generate


def _block_places(
    builder: ir.IRBuilder, place: ir.Value, down: ir.Value, right: ir.Value, across: ir.Value
) -> list[ir.Value]:
    places = []
    for lane in range(LANES):
        row, column = builder.udiv(INT64(lane), across), builder.urem(INT64(lane), across)
        inside = builder.add(builder.mul(row, down), builder.mul(column, right))
        places.append(builder.add(place, inside))
    return places


def _transposed(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """Transpose: lane j of vector i becomes lane i of vector j. Swaps off-diagonal blocks of growing size."""
    rows = list(vectors)
    size = 1
    while size < LANES:
        lanes = range(LANES)
        upper = ir.Constant(INT_VECTOR, [LANES + j - size if j & size else j for j in lanes])
        lower = ir.Constant(INT_VECTOR, [LANES + j if j & size else j + size for j in lanes])
        for i in lanes:
            if not i & size:
                one, other = rows[i], rows[i + size]
                rows[i] = builder.shuffle_vector(one, other, upper)
                rows[i + size] = builder.shuffle_vector(one, other, lower)
        size *= 2
    return rows
