"""Which engines there are."""

from __future__ import annotations

from collections.abc import Sequence

from sparsity.engines.graphs import Graphs
from sparsity.engines.onnxruntime_engine import OnnxRuntimeEngine
from sparsity.engines.openvino_engine import OpenVinoEngine
from sparsity.engines.runner import Engine
from sparsity.engines.sparse_engine import SparseEngine
from sparsity.engines.torch_engine import TorchEngine
from sparsity.errors import InputError

TORCH = TorchEngine.name
_OF_GRAPHS = {engine.name: engine for engine in (OnnxRuntimeEngine, OpenVinoEngine)}
_ALONE = {engine.name: engine for engine in (TorchEngine, SparseEngine)}
ENGINES = (TORCH, *_OF_GRAPHS, SparseEngine.name)
UNTRACED = _ALONE.keys()
"""Those that need no graph of a network."""
PACKAGES = {name: name for name in ENGINES} | {SparseEngine.name: "numba"}
"""What computes, by engine: its version is a part of a figure's setup."""


def make_engines(names: Sequence[str]) -> dict[str, Engine]:
    """The engines of these names. Those that run ONNX graphs share the tracing of a network.

    Raises InputError for another name, or where a package is missing.
    """
    wanted = list(dict.fromkeys(check_engine(name) for name in names))
    graphs = Graphs() if _OF_GRAPHS.keys() & set(wanted) else None
    return {name: _OF_GRAPHS[name](graphs) if name in _OF_GRAPHS else _ALONE[name]() for name in wanted}


def make_engine(name: str) -> Engine:
    """One engine, as make_engines."""
    return make_engines([name])[name]


def check_engine(name: str) -> str:
    """Return the name. Raises InputError unless it is an engine's."""
    if name not in ENGINES:
        raise InputError(f"--engine is {name!r}; {', '.join(ENGINES)} are expected")
    return name
