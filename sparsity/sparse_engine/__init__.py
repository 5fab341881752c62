"""An engine for CPUs in which zeros cost nothing. Needs the package numba."""

from __future__ import annotations

from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.explain import Line, explain, format_lines
from sparsity.sparse_engine.tuning import tune
from sparsity.yolo.network import Network

__all__ = ["CompiledNetwork", "Line", "compile", "explain", "format_lines", "tune"]


def compile(network: Network, imgsz: int = 640, threads: int | None = None) -> CompiledNetwork:
    """Make a network ready for images of imgsz x imgsz pixels; others run as well, by choices not measured.

    threads: for one call; as many as torch is set to in the calling thread where None.
    Takes some seconds, most of them once for a machine: code and choices stay in the user's cache folder.
    Raises InputError for a network with operations that the engine does not know.
    """
    compiled = CompiledNetwork(network, threads)
    tune(compiled, imgsz, imgsz)
    return compiled
