"""One point of a sweep: how much is pruned, by which method, at which stage, and in which engine it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparsity.base.errors import InputError
from sparsity.engines.table import TORCH
from sparsity.pruning.budgets import WEIGHTS
from sparsity.pruning.method import Method
from sparsity.pruning.scopes import check_amount
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT, staged

DECIMALS = 9
"""The number of decimals to which amounts are rounded, so that 0.1 + 0.2 is 0.3."""


@dataclass(frozen=True)
class Level:
    """A method, an amount in [0, 1), an engine, and a stage: one-shot, or fine-tuned after pruning.

    The dense baseline has amount 0, method l1 and stage one-shot.
    """

    method: Method
    amount: float
    engine: str = TORCH
    stage: str = ONE_SHOT

    @property
    def key(self) -> str:
        """The level's name in files: dense, layer_0.3, obs_measured_0.3_finetuned, lamp_0.3_openvino."""
        method = self.method
        criterion = "" if method.name == "l1" else f"{method.name}_"
        budget = "" if method.budget == WEIGHTS else f"{method.budget}_"
        pruned = f"{criterion}{method.scope}_{budget}{self.amount!r}" if self.amount else "dense"
        trained = f"{pruned}_finetuned" if self.stage == FINE_TUNED else pruned
        return trained if self.engine == TORCH else f"{trained}_{self.engine}"

    @property
    def name(self) -> str:
        """The method and the stage, as in tables: obs; obs, fine-tuned."""
        return staged(self.method.label, self.stage)

    @property
    def label(self) -> str:
        """The level's name in printed lines: obs, 0.3; obs, fine-tuned, 0.3."""
        return f"{self.name}, {self.amount:.9g}"

    @property
    def one_shot(self) -> Level:
        """The same level before training."""
        return replace(self, stage=ONE_SHOT)

    @property
    def in_torch(self) -> Level:
        """The same level in torch: the engines of a level share its network."""
        return replace(self, engine=TORCH)

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
    amounts: Sequence[float],
    methods: Sequence[Method],
    engines: Sequence[str] = (TORCH,),
    stages: Sequence[str] = (ONE_SHOT,),
) -> tuple[Level, ...]:
    """Return the levels of a sweep: the dense baseline, then the amounts of each method in rising order.

    Each amount and each method counts once. With several stages, each method has all amounts of one stage,
    then those of the next. Each level comes in all engines, one after another, because they share a pruned
    copy. Raises InputError for an amount outside 0 <= amount < 1, or if there is no method.
    """
    rising = sorted({_rounded(amount) for amount in amounts} - {0.0})
    if not methods:
        raise InputError("`methods` is empty; one or more of l1, lamp, erk, obs are expected")
    series = [(method, stage) for method in dict.fromkeys(methods) for stage in stages]
    pruned = [(method, amount, stage) for method, stage in series for amount in rising]
    copies = [(Method(), 0.0, ONE_SHOT), *pruned]
    return tuple(
        Level(method, amount, engine, stage)
        for method, amount, stage in copies
        for engine in dict.fromkeys(engines)
    )
