"""The table of criteria, and names that stand for a criterion together with a scope."""

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
"""Name -> class of the criterion. CRITERIA.register(name, class) adds one."""
SHORTHANDS: Mapping[str, tuple[str, Scope]] = {"lamp": ("l1", "lamp"), "erk": ("l1", "erk")}
"""Short name -> the criterion and the scope that it stands for."""
