"""Makes engines by name. Those that run ONNX graphs share the graphs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparsity.engines.engine import Engine
from sparsity.engines.graphs import Graphs
from sparsity.engines.table import ENGINES, check_engine


def make_engines(names: Sequence[str], calibration: Sequence[Tensor] = ()) -> dict[str, Engine]:
    """Return the engines of these names. Those that run ONNX graphs trace a network once, together.

    calibration: batches of images, for engines that need some.
    Raises InputError for an unknown name, and where a package is missing.
    """
    classes = {name: ENGINES[name] for name in dict.fromkeys(check_engine(name) for name in names)}
    graphs = Graphs() if any(engine.needs_graph for engine in classes.values()) else None
    made = {}
    for name, engine in classes.items():
        given = {"graphs": graphs} if engine.needs_graph else {}
        made[name] = engine(**given, **({"calibration": calibration} if engine.needs_images else {}))
    return made


def make_engine(name: str, calibration: Sequence[Tensor] = ()) -> Engine:
    """Return one engine. Raises InputError where make_engines does."""
    return make_engines([name], calibration)[name]
