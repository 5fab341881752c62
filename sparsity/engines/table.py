"""The table of engines. Listing their names does not import them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sparsity.base.errors import InputError
from sparsity.base.table import Table

if TYPE_CHECKING:
    from sparsity.engines.engine import Engine

TORCH = "torch"
"""The name of the engine that runs every network, on every device."""
SPARSE = "sparse"
"""The name of the engine that skips zeros, in float32. The budget latency is the time in it."""
ENGINES: Table[type[Engine]] = Table(
    "engine",
    {
        TORCH: "sparsity.engines.pytorch:TorchEngine",
        "onnxruntime": "sparsity.engines.onnxruntime:OnnxRuntimeEngine",
        "openvino": "sparsity.engines.openvino:OpenVinoEngine",
        "openvino-bf16": "sparsity.engines.openvino:OpenVinoBf16Engine",
        SPARSE: "sparsity.engines.sparse:SparseEngine",
        "sparse-bf16": "sparsity.engines.sparse:SparseBf16Engine",
        "sparse-int8": "sparsity.engines.sparse:SparseInt8Engine",
    },
)
"""Name -> class of the engine. Add one with ENGINES.register(name, class)."""


def engine_packages() -> tuple[str, ...]:
    """Return the names of the distributions that the engines use."""
    engines = [ENGINES[name] for name in ENGINES]
    graphs = ("onnx",) if any(engine.needs_graph for engine in engines) else ()
    return (*graphs, *(engine.package for engine in engines))


def check_engine(name: str) -> str:
    """Return the name. Raises InputError if it is not the name of an engine."""
    return ENGINES.check(name, label="`engine`")


def need_images(names: Iterable[str]) -> bool:
    """Whether any of these engines learns from images."""
    return any(ENGINES[name].needs_images for name in names)


def check_images(names: Iterable[str], given: bool) -> None:
    """Raise InputError for an engine that needs images, where none are given."""
    for name in names:
        if ENGINES[name].needs_images and not given:
            raise InputError(f"`engine` {name} needs images; give some as `calibration` (no labels needed)")


def is_cpu_only(name: str) -> bool:
    """Whether an engine runs on the CPU only. Raises InputError for an unknown name."""
    return ENGINES[check_engine(name)].devices == ("cpu",)
