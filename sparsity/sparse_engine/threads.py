"""Counters in memory, by which threads share the work of a program and wait for each other."""

from __future__ import annotations

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsity.sparse_engine.emit import INT64, data_of

SPINS = 2000
"""How many times a waiting thread reads the counter before it yields its core to other threads."""
_YIELDS = sys.platform != "win32"
_X86 = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def add_atomically(typingctx, counters, place, number):  # noqa: ANN001, ANN201
    """Add number to counters[place] (int64) atomically, and return the previous value."""
    signature = types.int64(counters, types.int64, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")

    return signature, generate


@intrinsic
def read_atomically(typingctx, counters, place):  # noqa: ANN001, ANN201
    """Return counters[place], read atomically.

    Everything that other threads wrote before they added to it is then visible.
    """
    signature = types.int64(counters, types.int64)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = data_of(context, builder, signature, arguments)
        return builder.load_atomic(builder.gep(data, [arguments[1]]), ordering="acquire", align=8)

    return signature, generate


@intrinsic
def pause(typingctx, spins):  # noqa: ANN001, ANN201
    """Tell the CPU that this thread is waiting; every SPINS-th time, yield the core to another thread."""

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        void = ir.FunctionType(ir.VoidType(), [])
        if _X86:
            builder.call(cgutils.get_or_insert_function(builder.module, void, "llvm.x86.sse2.pause"), [])
        if _YIELDS:
            turn = builder.urem(builder.add(arguments[0], INT64(1)), INT64(SPINS))
            with builder.if_then(builder.icmp_signed("==", turn, INT64(0)), likely=False):
                kind = ir.FunctionType(ir.IntType(32), [])
                builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate
