"""The sparse engine: runs networks on a CPU and skips zero weights. Needs the package numba."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.yolo.network import Network

try:
    from sparsity.sparse_engine.compiled import CompiledNetwork
    from sparsity.sparse_engine.explain import Line, explain, format_lines
    from sparsity.sparse_engine.machine import MACHINE
    from sparsity.sparse_engine.tuning import tune
except ImportError as error:
    raise InputError(f"the sparse engine needs the package numba ({error}): pip install numba") from error

HAS_BFLOAT16, HAS_INT8 = MACHINE.bfloat16, MACHINE.int8
"""Whether this CPU has instructions for dot products of bfloat16; and of bytes."""
__all__ = [
    "HAS_BFLOAT16",
    "HAS_INT8",
    "CompiledNetwork",
    "Line",
    "compile",
    "explain",
    "format_lines",
    "tune",
]


def compile(
    network: Network,
    imgsz: int = 640,
    threads: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    calibration: Sequence[Tensor] = (),
) -> CompiledNetwork:
    """Compile a network, and tune it for images of imgsz x imgsz pixels.

    Images of other sizes run too, with estimated instead of measured choices.
    threads: the number of threads of one call. None: torch.get_num_threads() in the calling thread.
    dtype, calibration: see CompiledNetwork.
    The first call on a machine takes some seconds. Machine code and choices are then stored in the user's
    cache folder, and later calls are faster.
    Raises InputError for a network with operations that the engine does not support.
    """
    compiled = CompiledNetwork(network, threads, dtype=dtype, calibration=calibration)
    tune(compiled, imgsz, imgsz)
    return compiled
