"""Makes engines by name. Those that run ONNX graphs share the graphs."""

from __future__ import annotations

from collections.abc import Sequence

from sparsity.engines.engine import Engine
from sparsity.engines.graphs import Graphs
from sparsity.engines.table import ENGINES, check_engine


def make_engines(names: Sequence[str]) -> dict[str, Engine]:
    """Return the engines of these names. Those that run ONNX graphs trace a network once, together.

    Raises InputError for an unknown name, and where a package is missing.
    """
    classes = {name: ENGINES[name] for name in dict.fromkeys(check_engine(name) for name in names)}
    graphs = Graphs() if any(engine.needs_graph for engine in classes.values()) else None
    return {
        name: engine(graphs=graphs) if engine.needs_graph else engine() for name, engine in classes.items()
    }


def make_engine(name: str) -> Engine:
    """Return one engine. Raises InputError where make_engines does."""
    return make_engines([name])[name]
