"""One point of a sweep: how much is pruned, and over what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sparsity.errors import InputError
from sparsity.pruning.apply import Scope, check_amount

DECIMALS = 9
"""To which amounts are rounded, so that 0.1 + 0.2 is 0.3."""


@dataclass(frozen=True)
class Level:
    """The amount pruned, in [0, 1), and the scope; the dense baseline has amount 0 and scope "layer"."""

    scope: Scope
    amount: float

    @property
    def key(self) -> str:
        """The level's name in files: dense, layer_0.3."""
        return f"{self.scope}_{self.amount!r}" if self.amount else "dense"


def _rounded(amount: float) -> float:
    rounded = check_amount(round(check_amount(amount), DECIMALS))
    if amount and not rounded:
        raise InputError(f"sparsity {amount!r} is too small to be told from 0")
    return rounded


DENSE = Level("layer", 0.0)


def plan(amounts: Sequence[float], scopes: Sequence[str]) -> tuple[Level, ...]:
    """The levels of a sweep: the dense baseline first, then each scope's amounts, rising, each once.

    Raises InputError for an amount outside 0 <= amount < 1 or an unknown scope.
    """
    rising = sorted({_rounded(amount) for amount in amounts} - {0.0})
    for scope in scopes:
        if scope not in get_args(Scope):
            raise InputError(f"--scope: {scope!r} is none of {', '.join(get_args(Scope))}")
    if not scopes:
        raise InputError(f"--scope is empty; one or more of {', '.join(get_args(Scope))} are expected")
    return (DENSE, *(Level(scope, amount) for scope in dict.fromkeys(scopes) for amount in rising))
