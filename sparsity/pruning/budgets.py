"""Budgets: what an amount is a share of."""

from __future__ import annotations

from typing import Literal, get_args

from sparsity.base.errors import InputError

Budget = Literal["weights", "flops", "latency"]
BUDGETS: tuple[str, ...] = get_args(Budget)
WEIGHTS, FLOPS, LATENCY = BUDGETS


def check_budget(budget: str) -> None:
    """Raise InputError for an unknown budget."""
    if budget not in BUDGETS:
        raise InputError(f"`budget` is {budget!r}; one of {', '.join(BUDGETS)} is expected")
