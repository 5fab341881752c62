"""Generates the LLVM code for vectors of packed channels: products, and conversion from and to float32.

Vectors are passed as vectors of float32, whose bits are those of the packed numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from sparsity.sparse_engine.emit import (
    INT32,
    INT_VECTOR,
    LANES,
    ROUNDING,
    VECTOR,
    constant,
    maximum,
    minimum,
    multiply_add,
)
from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.packing import BFLOAT16, FLOAT32, INT8, LARGEST, ZERO_POINT, Packing


class _Bfloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not define."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


BYTES = ir.VectorType(ir.IntType(8), 4 * LANES)
HALVES, HALF_VECTOR = ir.VectorType(_Bfloat(), 2 * LANES), ir.VectorType(_Bfloat(), LANES)
"""A vector of pairs as single bfloat16 numbers; and one number of each pair."""
ZERO_BITS = {FLOAT32: 0, BFLOAT16: 0, INT8: ZERO_POINT * 0x01010101}
"""The bits of a number whose channels are all 0."""
LOWEST_BITS = {FLOAT32: -0x00800000, BFLOAT16: -0x00800081, INT8: 0}
"""The bits of a number whose channels are all lowest: -inf, the lowest finite bfloat16, the lowest byte."""


def add_products(
    builder: ir.IRBuilder, packing: Packing, weight: ir.Value, cells: ir.Value, total: ir.Value
) -> ir.Value:
    """Return total plus the products of all channels of weight and cells.

    Totals of packing int8 are int32: sums of products of signed weights and unsigned cells.
    """
    if packing is FLOAT32:
        return multiply_add(builder, weight, cells, total)
    if packing is BFLOAT16:
        return _add_halves(builder, weight, cells, total)
    return _add_bytes(builder, weight, cells, total)


def unpack(builder: ir.IRBuilder, packing: Packing, packed: ir.Value) -> list[ir.Value]:
    """Return the channels of a vector, each as float32. Bytes are not scaled, but their zero point is 0."""
    if packing is FLOAT32:
        return [packed]
    bits = builder.bitcast(packed, INT_VECTOR)
    if packing is BFLOAT16:
        low, high = builder.shl(bits, _each(16)), builder.and_(bits, _each(-65536))
        return [builder.bitcast(one, VECTOR) for one in (low, high)]
    numbers = [builder.and_(builder.lshr(bits, _each(8 * place)), _each(255)) for place in range(4)]
    return [builder.sitofp(builder.sub(one, _each(ZERO_POINT)), VECTOR) for one in numbers]


def pack(builder: ir.IRBuilder, packing: Packing, channels: Sequence[ir.Value]) -> ir.Value:
    """Return the vector of these channels, each rounded: the inverse of unpack."""
    if packing is FLOAT32:
        return channels[0]
    if packing is BFLOAT16:
        return _pack_halves(builder, *channels)
    packed = None
    for place, channel in enumerate(channels):
        byte = builder.shl(_byte(builder, channel), _each(8 * place))
        packed = byte if packed is None else builder.or_(packed, byte)
    return builder.bitcast(packed, VECTOR)


def larger(builder: ir.IRBuilder, packing: Packing, one: ir.Value, other: ir.Value) -> ir.Value:
    """Return the larger number of each channel, nan where either is nan."""
    if packing is INT8:
        mine, theirs = (builder.bitcast(vector, BYTES) for vector in (one, other))
        most = builder.select(builder.icmp_unsigned(">", mine, theirs), mine, theirs)
        return builder.bitcast(most, VECTOR)
    parts = zip(unpack(builder, packing, one), unpack(builder, packing, other), strict=True)
    return pack(builder, packing, [_larger(builder, *part) for part in parts])


def _larger(builder: ir.IRBuilder, mine: ir.Value, theirs: ir.Value) -> ir.Value:
    kept = builder.or_(builder.fcmp_ordered(">=", mine, theirs), builder.fcmp_unordered("uno", mine, mine))
    return builder.select(kept, mine, theirs)


def _each(number: int) -> ir.Constant:
    return ir.Constant(INT_VECTOR, [number] * LANES)


def _intrinsic(builder: ir.IRBuilder, name: str, kind: ir.FunctionType) -> ir.Function:
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}.{32 * LANES}")


def _add_halves(builder: ir.IRBuilder, weight: ir.Value, cells: ir.Value, total: ir.Value) -> ir.Value:
    if not MACHINE.bfloat16:
        parts = zip(unpack(builder, BFLOAT16, weight), unpack(builder, BFLOAT16, cells), strict=True)
        for one, other in parts:
            total = multiply_add(builder, one, other, total)
        return total
    dot = _intrinsic(builder, "avx512bf16.dpbf16ps", ir.FunctionType(VECTOR, [VECTOR, HALVES, HALVES]))
    return builder.call(dot, [total, builder.bitcast(weight, HALVES), builder.bitcast(cells, HALVES)])


def _add_bytes(builder: ir.IRBuilder, weight: ir.Value, cells: ir.Value, total: ir.Value) -> ir.Value:
    total = builder.bitcast(total, INT_VECTOR)
    if MACHINE.int8:
        dot = _intrinsic(builder, "avx512.vpdpbusd", ir.FunctionType(INT_VECTOR, [INT_VECTOR, BYTES, BYTES]))
        found = builder.call(dot, [total, builder.bitcast(cells, BYTES), builder.bitcast(weight, BYTES)])
        return builder.bitcast(found, VECTOR)
    weight, cells = builder.bitcast(weight, INT_VECTOR), builder.bitcast(cells, INT_VECTOR)
    for place in range(4):
        signed = builder.ashr(builder.shl(weight, _each(24 - 8 * place)), _each(24))
        unsigned = builder.and_(builder.lshr(cells, _each(8 * place)), _each(255))
        total = builder.add(total, builder.mul(signed, unsigned))
    return builder.bitcast(total, VECTOR)


def _pack_halves(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    if MACHINE.bfloat16:
        halves = [builder.fptrunc(one, HALF_VECTOR) for one in (low, high)]
        order = [lane + half * LANES for lane in range(LANES) for half in (0, 1)]
        mixed = builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(INT32, 2 * LANES), order))
        return builder.bitcast(mixed, VECTOR)
    # Round by integers: LLVM's own way calls a function that numba lacks.
    rounded = []
    for number in (low, high):
        bits = builder.bitcast(number, INT_VECTOR)
        odd = builder.and_(builder.lshr(bits, _each(16)), _each(1))
        nearest = builder.add(bits, builder.add(odd, _each(0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", number, number)
        rounded.append(builder.select(is_nan, _each(0x7FC00000), nearest))
    upper = builder.and_(rounded[1], _each(-65536))
    return builder.bitcast(builder.or_(builder.lshr(rounded[0], _each(16)), upper), VECTOR)


def _byte(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """Return the byte of a scaled number, as int32. Beyond the range it is the nearest byte; nan gives 0."""
    shifted = builder.fadd(number, constant(ZERO_POINT))
    bounded = minimum(builder, maximum(builder, shifted, constant(0)), constant(LARGEST))
    # Adding ROUNDING leaves the rounded number in the lowest bits.
    return builder.and_(builder.bitcast(builder.fadd(bounded, constant(ROUNDING)), INT_VECTOR), _each(255))
