"""The scopes, which allocate an amount of sparsity among the layers, and checks of scope and amount."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, get_args

from sparsity.base.errors import InputError

Scope = Literal["layer", "global", "lamp", "erk", "measured"]
SCOPES: tuple[str, ...] = get_args(Scope)


def check_amount(amount: float) -> float:
    """Return the amount. Raises InputError unless it is a number with 0 <= amount < 1."""
    if not isinstance(amount, Real) or not 0 <= amount < 1 or math.isnan(amount):
        raise InputError(
            f"`amount` is {amount!r}; a fraction from 0 (dense) to less than 1 is expected, "
            "for example 0.3 for 30%"
        )
    return float(amount)


def check_scope(scope: str) -> None:
    """Raise InputError for an unknown scope."""
    if scope not in SCOPES:
        raise InputError(f"`scope` is {scope!r}; one of {', '.join(SCOPES)} is expected")
