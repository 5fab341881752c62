"""What slimming cuts, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from sparsity.base.errors import InputError

By: TypeAlias = Literal["bn", "l1"]
"""What a channel's score is: its batch norm's scale, or the L1 norm of its filter."""


@dataclass(frozen=True)
class SlimmingSettings:
    """Which channels go.

    percent: the share of all free channels, from 0 to below 1. by: what scores them (see channel_scores).
    tied: whether channels that a residual addition ties are free, to go together.
    min_channels: what each layer keeps at least, of those it has. round_to: of what each layer's channels
    become a multiple, upwards. fold: whether what a cut channel gave goes to those that read it.
    """

    percent: float
    by: By = "bn"
    tied: bool = False
    min_channels: int = 8
    round_to: int = 1
    fold: bool = True

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        if not 0 <= self.percent < 1 or math.isnan(self.percent):
            raise InputError(f"--percent is {self.percent!r}; a fraction from 0 to below 1 is expected")
        if self.by not in get_args(By):
            raise InputError(f"--by is {self.by!r}; {' or '.join(get_args(By))} is expected")
        for name in ("min_channels", "round_to"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value!r}; a whole number from 1 on is expected")
