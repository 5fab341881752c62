"""Generates the parts of the kernels' LLVM code: vectors, loads, stores and activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.operations import Activation

LANES = MACHINE.lanes


class _Bfloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not define."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, INT_VECTOR = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES)
HALVES, HALF_VECTOR = ir.VectorType(_Bfloat(), 2 * LANES), ir.VectorType(_Bfloat(), LANES)
"""A vector of pairs as single bfloat16 numbers; and one number of each pair."""
ALIGNED = 4 * LANES
LOG2_E = 1.4426950408889634
ROUNDING = 12582912.0
"""1.5 x 2^23. Adding it to a float32 rounds to a whole number, which is then in the lowest bits."""
FARTHEST = 87.0
"""The bound of exp's argument. Beyond it, exp leaves float32's range of normal numbers."""
EXP2 = (1.3390323e-3, 9.6184373e-3, 5.5503324e-2, 2.4022648e-1, 6.9314718e-1, 1.0)
"""Coefficients of a polynomial for 2^f on -0.5 to 0.5; the relative error is about 2e-7."""


def data_of(context, builder, signature, arguments, place=0):  # noqa: ANN001, ANN201
    """Return the pointer to the data of an intrinsic's array argument. place: the argument's index."""
    return context.make_array(signature.args[place])(context, builder, arguments[place]).data


def constant(number: float) -> ir.Constant:
    """Return a vector whose lanes all hold one constant float32 number."""
    return ir.Constant(VECTOR, [float(np.float32(number))] * LANES)


def splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """Return a vector whose lanes all hold one number that is known at run time only."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(INT_VECTOR, [0] * LANES))


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Return a x b + c, rounded once if the CPU has a fused multiply-add."""
    if not MACHINE.fma:
        return builder.fadd(builder.fmul(a, b), c)
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, b, c])


def multiply_add_pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Return c plus both products of each pair of a and b, as float32. a, b: pairs, in vectors of float32."""
    if not MACHINE.bfloat16:
        for one, other in zip(unpack(builder, a), unpack(builder, b), strict=True):
            c = multiply_add(builder, one, other, c)
        return c
    kind = ir.FunctionType(VECTOR, [VECTOR, HALVES, HALVES])
    dot = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}")
    return builder.call(dot, [c, builder.bitcast(a, HALVES), builder.bitcast(b, HALVES)])


def unpack(builder: ir.IRBuilder, pairs: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the first and the second numbers of a vector of pairs, as float32."""
    bits = builder.bitcast(pairs, INT_VECTOR)
    low = builder.shl(bits, ir.Constant(INT_VECTOR, [16] * LANES))
    high = builder.and_(bits, ir.Constant(INT_VECTOR, [-65536] * LANES))
    return builder.bitcast(low, VECTOR), builder.bitcast(high, VECTOR)


def pack(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """Return a vector of pairs of these numbers, rounded to bfloat16."""
    if not MACHINE.bfloat16:
        return _pack_by_integers(builder, low, high)
    halves = [builder.fptrunc(one, HALF_VECTOR) for one in (low, high)]
    order = [lane + half * LANES for lane in range(LANES) for half in (0, 1)]
    mixed = builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(INT32, 2 * LANES), order))
    return builder.bitcast(mixed, VECTOR)


def _pack_by_integers(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """Do what pack does, to the nearest, even number. LLVM's own way calls a function that numba lacks."""
    sixteen = ir.Constant(INT_VECTOR, [16] * LANES)
    rounded = []
    for number in (low, high):
        bits = builder.bitcast(number, INT_VECTOR)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(INT_VECTOR, [1] * LANES))
        half = builder.add(odd, ir.Constant(INT_VECTOR, [0x7FFF] * LANES))
        nan = ir.Constant(INT_VECTOR, [0x7FC00000] * LANES)
        is_nan = builder.fcmp_unordered("uno", number, number)
        rounded.append(builder.select(is_nan, nan, builder.add(bits, half)))
    upper = builder.and_(rounded[1], ir.Constant(INT_VECTOR, [-65536] * LANES))
    return builder.bitcast(builder.or_(builder.lshr(rounded[0], sixteen), upper), VECTOR)


def holds_pairs(memory: types.Array) -> bool:
    """Whether an arena holds pairs of bfloat16: those have the type int32, others float32."""
    return memory.dtype == types.int32


def vector_at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int) -> ir.Value:
    """Return the pointer to a vector. base: a pointer to floats. offset: in floats from base."""
    place = INT64(offset) if isinstance(offset, int) else offset
    return builder.bitcast(builder.gep(base, [place]), VECTOR.as_pointer())


def load(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int) -> ir.Value:
    """Load a vector from an aligned address."""
    return builder.load(vector_at(builder, base, offset), align=ALIGNED)


def store(builder: ir.IRBuilder, vector: ir.Value, base: ir.Value, offset: ir.Value | int) -> None:
    """Store a vector at an aligned address."""
    builder.store(vector, vector_at(builder, base, offset), align=ALIGNED)


def activate(builder: ir.IRBuilder, x: ir.Value, activation: Activation, slope: ir.Value) -> ir.Value:
    """Return the activation of a vector. slope: a vector, the negative slope of LeakyReLU."""
    if activation is Activation.SILU:
        return _silu(builder, x)
    zero = constant(0)
    if activation is Activation.RELU:
        return _maximum(builder, x, zero)
    if activation is Activation.LEAKY_RELU:
        return builder.select(builder.fcmp_ordered("<", x, zero), builder.fmul(x, slope), x)
    if activation is Activation.HARDSWISH:
        gate = _minimum(builder, _maximum(builder, builder.fadd(x, constant(3)), zero), constant(6))
        return builder.fmul(builder.fmul(x, gate), constant(1 / 6))
    return x


def shuffled(builder: ir.IRBuilder, vector: ir.Value, fill: ir.Value, sources: Sequence[int]) -> ir.Value:
    """Return a vector whose lane i is lane sources[i] of vector, or of fill where sources[i] is -1."""
    indices = [LANES if source < 0 else source for source in sources]
    return builder.shuffle_vector(vector, fill, ir.Constant(INT_VECTOR, indices))


def _silu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Return x / (1 + exp(-x)). For x = -inf it gives -inf, where torch gives nan (0 x inf)."""
    near = _minimum(builder, _maximum(builder, x, constant(-FARTHEST)), constant(FARTHEST))
    rounded = multiply_add(builder, near, constant(-LOG2_E), constant(ROUNDING))
    whole = builder.fsub(rounded, constant(ROUNDING))
    rest = multiply_add(builder, near, constant(-LOG2_E), builder.fneg(whole))
    power = constant(EXP2[0])
    for coefficient in EXP2[1:]:
        power = multiply_add(builder, power, rest, constant(coefficient))
    exponent = builder.shl(builder.bitcast(rounded, INT_VECTOR), ir.Constant(INT_VECTOR, [23] * LANES))
    exp = builder.bitcast(builder.add(builder.bitcast(power, INT_VECTOR), exponent), VECTOR)
    return builder.fdiv(x, builder.fadd(exp, constant(1)))


def _minimum(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered("<", x, bound), x, bound)


def _maximum(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", x, bound), x, bound)
