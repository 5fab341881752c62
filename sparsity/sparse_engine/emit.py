"""Generates the parts of the kernels' LLVM code: vectors, loads, stores and activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.operations import Activation

LANES = MACHINE.lanes

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, INT_VECTOR = ir.VectorType(FLOAT, LANES), ir.VectorType(INT32, LANES)
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
        return maximum(builder, x, zero)
    if activation is Activation.LEAKY_RELU:
        return builder.select(builder.fcmp_ordered("<", x, zero), builder.fmul(x, slope), x)
    if activation is Activation.HARDSWISH:
        gate = minimum(builder, maximum(builder, builder.fadd(x, constant(3)), zero), constant(6))
        return builder.fmul(builder.fmul(x, gate), constant(1 / 6))
    return x


def shuffled(builder: ir.IRBuilder, vector: ir.Value, fill: ir.Value, sources: Sequence[int]) -> ir.Value:
    """Return a vector whose lane i is lane sources[i] of vector, or of fill where sources[i] is -1."""
    indices = [LANES if source < 0 else source for source in sources]
    return builder.shuffle_vector(vector, fill, ir.Constant(INT_VECTOR, indices))


def _silu(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Return x / (1 + exp(-x)). For x = -inf it gives -inf, where torch gives nan (0 x inf)."""
    return builder.fdiv(x, builder.fadd(power_of_two(builder, x, -LOG2_E), constant(1)))


def power_of_two(builder: ir.IRBuilder, x: ir.Value, factor: float) -> ir.Value:
    """Return 2^(x factor). x is bounded to FARTHEST on both sides; nan counts as -FARTHEST."""
    near = minimum(builder, maximum(builder, x, constant(-FARTHEST)), constant(FARTHEST))
    rounded = multiply_add(builder, near, constant(factor), constant(ROUNDING))
    whole = builder.fsub(rounded, constant(ROUNDING))
    rest = multiply_add(builder, near, constant(factor), builder.fneg(whole))
    power = constant(EXP2[0])
    for coefficient in EXP2[1:]:
        power = multiply_add(builder, power, rest, constant(coefficient))
    exponent = builder.shl(builder.bitcast(rounded, INT_VECTOR), ir.Constant(INT_VECTOR, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(power, INT_VECTOR), exponent), VECTOR)


def minimum(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    """Return the smaller number of each lane; of nan and a bound, the bound."""
    return builder.select(builder.fcmp_ordered("<", x, bound), x, bound)


def maximum(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    """Return the larger number of each lane; of nan and a bound, the bound."""
    return builder.select(builder.fcmp_ordered(">", x, bound), x, bound)
