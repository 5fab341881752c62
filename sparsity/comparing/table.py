"""The table of techniques. Listing their names imports no technique."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsity.base.table import Table

_MODULE = "sparsity.comparing.techniques"
TECHNIQUES: Table[Callable[..., Any]] = Table(
    "technique",
    {
        "dense": f"{_MODULE}:dense",
        "fuse": f"{_MODULE}:fuse",
        "prune": f"{_MODULE}:prune",
        "prune+finetune": f"{_MODULE}:prune_finetune",
        "distill": f"{_MODULE}:distill",
        "slim": f"{_MODULE}:slim",
        "int8-dynamic": f"{_MODULE}:int8_dynamic",
        "int8-static": f"{_MODULE}:int8_static",
    },
)
"""Name -> function that makes its plan: (Asked, folder of its files) -> techniques.Plan."""
