"""The table of criteria, and the names that stand for a criterion with an allocation of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sparsity.base.table import Table
from sparsity.pruning.scopes import Scope

if TYPE_CHECKING:
    from sparsity.pruning.criterion import Criterion

CRITERIA: Table[type[Criterion]] = Table(
    "criterion",
    {"l1": "sparsity.pruning.magnitude:Magnitude", "obs": "sparsity.pruning.obs:Obs"},
)
"""Name -> class of the criterion. Add one with CRITERIA.register(name, class)."""
SHORTHANDS: Mapping[str, tuple[str, Scope]] = {"lamp": ("l1", "lamp"), "erk": ("l1", "erk")}
"""Name on the command line -> criterion and scope that it stands for."""
