"""One point of a sweep: how much is pruned, and by which method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.errors import InputError
from sparsity.pruning.amounts import check_amount
from sparsity.pruning.method import Method

DECIMALS = 9
"""To which amounts are rounded, so that 0.1 + 0.2 is 0.3."""


@dataclass(frozen=True)
class Level:
    """The method, and the amount pruned, in [0, 1); the dense baseline has amount 0 and method l1."""

    method: Method
    amount: float

    @property
    def key(self) -> str:
        """The level's name in files: dense, layer_0.3, obs_measured_0.3."""
        if not self.amount:
            return "dense"
        criterion = "" if self.method.criterion == "l1" else f"{self.method.criterion}_"
        return f"{criterion}{self.method.scope}_{self.amount!r}"

    @property
    def label(self) -> str:
        """What is printed: obs, 0.3."""
        return f"{self.method.label}, {self.amount:.9g}"


def _rounded(amount: float) -> float:
    rounded = check_amount(round(check_amount(amount), DECIMALS))
    if amount and not rounded:
        raise InputError(f"sparsity {amount!r} is too small to be told from 0")
    return rounded


DENSE = Level(Method(), 0.0)


def plan(amounts: Sequence[float], methods: Sequence[Method]) -> tuple[Level, ...]:
    """The levels of a sweep: the dense baseline first, then each method's amounts, rising, each once.

    Raises InputError for an amount outside 0 <= amount < 1, or no method.
    """
    rising = sorted({_rounded(amount) for amount in amounts} - {0.0})
    if not methods:
        raise InputError("--criterion is empty; one or more of l1, lamp, erk, obs are expected")
    return (DENSE, *(Level(method, amount) for method in dict.fromkeys(methods) for amount in rising))
