"""Measures the peak performance of a core: multiply-adds on registers only."""

from __future__ import annotations

import time

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsity.sparse_engine.arrays import aligned_zeros
from sparsity.sparse_engine.emit import INT64, LANES, VECTOR, constant, data_of, load, multiply_add, store

CHAINS = 10
"""Number of independent sums: their multiply-adds do not wait for each other."""
TIMES = 200_000
ROUNDS = 5


@intrinsic
def _multiply_add_often(typingctx, numbers, times):  # noqa: ANN001, ANN202
    """Compute CHAINS sums of vectors, with `times` multiply-adds each, and store their total in numbers."""
    signature = types.void(numbers, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        factor: ir.Value = load(builder, data, 0)
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(CHAINS)]
        for number, one in enumerate(sums):
            builder.store(constant(number), one)
        with cgutils.for_range_slice(builder, INT64(0), arguments[1], INT64(1), intp=INT64):
            for one in sums:
                builder.store(multiply_add(builder, factor, factor, builder.load(one)), one)
        total = builder.load(sums[0])
        for one in sums[1:]:
            total = builder.fadd(total, builder.load(one))
        store(builder, total, data, LANES)
        return context.get_dummy_value()

    return signature, generate


@njit(nogil=True)
def _run(numbers, times):  # noqa: ANN001, ANN202
    _multiply_add_often(numbers, times)


def measure_peak() -> float:
    """Return the GFLOP/s of one core. A multiply-add counts as two operations."""
    numbers = aligned_zeros(2 * LANES)
    _run(numbers, 1)
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        _run(numbers, TIMES)
        best = min(best, time.perf_counter() - start)
    return 2 * LANES * CHAINS * TIMES / best / 1e9
