"""One point of a sweep: how much is pruned, by which method, and in which engine it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.engines.table import TORCH
from sparsity.pruning.budgets import WEIGHTS
from sparsity.pruning.method import Method
from sparsity.pruning.scopes import check_amount

DECIMALS = 9
"""The number of decimals to which amounts are rounded, so that 0.1 + 0.2 is 0.3."""


@dataclass(frozen=True)
class Level:
    """A method, an amount in [0, 1), and an engine. The dense baseline has amount 0 and method l1."""

    method: Method
    amount: float
    engine: str = TORCH

    @property
    def key(self) -> str:
        """The level's name in files: dense, layer_0.3, obs_measured_flops_0.3, layer_0.3_openvino."""
        method = self.method
        criterion = "" if method.name == "l1" else f"{method.name}_"
        budget = "" if method.budget == WEIGHTS else f"{method.budget}_"
        pruned = f"{criterion}{method.scope}_{budget}{self.amount!r}" if self.amount else "dense"
        return pruned if self.engine == TORCH else f"{pruned}_{self.engine}"

    @property
    def label(self) -> str:
        """The level's name in printed lines: obs, 0.3."""
        return f"{self.method.label}, {self.amount:.9g}"

    @property
    def dense(self) -> Level:
        """The dense baseline in the same engine."""
        return Level(Method(), 0.0, self.engine)


def _rounded(amount: float) -> float:
    rounded = check_amount(round(check_amount(amount), DECIMALS))
    if amount and not rounded:
        raise InputError(f"`amount` is {amount!r}; 0, or at least {10.0**-DECIMALS:g}, is expected")
    return rounded


def plan(
    amounts: Sequence[float], methods: Sequence[Method], engines: Sequence[str] = (TORCH,)
) -> tuple[Level, ...]:
    """Return the levels of a sweep: the dense baseline, then the amounts of each method in rising order.

    Each amount and each method counts once. Each level comes in all engines, one after another, because they
    share a pruned copy. Raises InputError for an amount outside 0 <= amount < 1, or if there is no method.
    """
    rising = sorted({_rounded(amount) for amount in amounts} - {0.0})
    if not methods:
        raise InputError("`methods` is empty; one or more of l1, lamp, erk, obs are expected")
    pruned = [(method, amount) for method in dict.fromkeys(methods) for amount in rising]
    copies = [(Method(), 0.0), *pruned]
    return tuple(Level(*one, engine) for one in copies for engine in dict.fromkeys(engines))
