"""The table of engines. Listing their names imports none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.base.table import Table

if TYPE_CHECKING:
    from sparsity.engines.engine import Engine

TORCH = "torch"
"""The engine that every network runs in, on every device."""
ENGINES: Table[type[Engine]] = Table(
    "engine",
    {
        TORCH: "sparsity.engines.pytorch:TorchEngine",
        "onnxruntime": "sparsity.engines.onnxruntime:OnnxRuntimeEngine",
        "openvino": "sparsity.engines.openvino:OpenVinoEngine",
        "sparse": "sparsity.engines.sparse:SparseEngine",
    },
)
"""Name -> class of the engine. Add one with ENGINES.register(name, class)."""


def engine_packages() -> tuple[str, ...]:
    """Return the distributions that engines compute with."""
    engines = [ENGINES[name] for name in ENGINES]
    graphs = ("onnx",) if any(engine.needs_graph for engine in engines) else ()
    return (*graphs, *(engine.package for engine in engines))


def check_engine(name: str) -> str:
    """Return the name. Raises InputError unless it is an engine's."""
    return ENGINES.check(name, label="--engine")


def is_cpu_only(name: str) -> bool:
    """Return whether an engine runs on the CPU alone. Raises InputError for an unknown name."""
    return ENGINES[check_engine(name)].devices == ("cpu",)
