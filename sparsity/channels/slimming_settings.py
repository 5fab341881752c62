"""The settings of slimming."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from sparsity.base.errors import InputError

By: TypeAlias = Literal["bn", "l1"]
"""The score of a channel: the scale of its batch norm, or the L1 norm of its filter."""


@dataclass(frozen=True)
class SlimmingSettings:
    """Which channels are cut.

    percent: the fraction of all free channels to cut, from 0 to below 1. by: their score (see
    channel_scores). tied: whether channels that a residual addition ties are free; they are cut together.
    min_channels: the smallest number of channels that a layer keeps, if it has that many. round_to: the
    number of channels of each layer is rounded up to a multiple of this. fold: whether the constant output of
    a cut channel is folded into the convolutions that read it.
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
            raise InputError(f"`percent` is {self.percent!r}; a fraction from 0 to below 1 is expected")
        if self.by not in get_args(By):
            raise InputError(f"`by` is {self.by!r}; {' or '.join(get_args(By))} is expected")
        for name in ("min_channels", "round_to"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"`{name}` is {value!r}; a whole number from 1 on is expected")
