"""A method: a criterion and a scope."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.pruning.budgets import FLOPS, LATENCY, WEIGHTS, Budget, check_budget
from sparsity.pruning.criteria import CRITERIA, SHORTHANDS
from sparsity.pruning.criterion import Criterion
from sparsity.pruning.scopes import Scope, check_scope


@dataclass(frozen=True)
class Method:
    """Which weights become zero, and how the amount is allocated among the layers.

    criterion: a name in CRITERIA ("l1": the smallest magnitudes; "obs": least squares on calibration
    images, see prune_obs), or your own criterion object.
    scope: see keep_counts. "" means the criterion's own scope: "layer" for l1, "measured" for obs.
    budget: what the amount is a share of: "weights", "flops" (multiply-adds; see multiply_adds.prices), or
    "latency" (time, by the price curves that a Pruner is given). For scope "layer", "flops" becomes
    "weights", because both are the same there: the same share of each layer.
    Raises InputError for an unknown criterion, scope or budget.
    """

    criterion: str | Criterion = "l1"
    scope: Scope | str = ""
    budget: Budget | str = WEIGHTS

    def __post_init__(self) -> None:
        if not isinstance(self.criterion, Criterion):
            CRITERIA.check(self.criterion)
        if not self.scope:
            object.__setattr__(self, "scope", self.resolved.own_scope)
        check_scope(self.scope)
        check_budget(self.budget)
        if self.scope == "layer" and self.budget == FLOPS:
            # The same share of each layer is that share of all multiply-adds of weights.
            object.__setattr__(self, "budget", WEIGHTS)

    @property
    def resolved(self) -> Criterion:
        """The criterion object."""
        return self.criterion if isinstance(self.criterion, Criterion) else CRITERIA[self.criterion]()

    @property
    def name(self) -> str:
        """The criterion's name."""
        return self.criterion.name if isinstance(self.criterion, Criterion) else self.criterion

    @property
    def label(self) -> str:
        """The name in tables: l1, l1 global, lamp, erk, measured, obs, obs layer; with the budget, if so."""
        return self._label if self.budget == WEIGHTS else f"{self._label}, {self.budget}"

    @property
    def _label(self) -> str:
        if self.scope == self.resolved.own_scope:
            return self.name
        if self.name == "l1" and self.scope != "global":
            return self.scope
        return f"{self.name} {self.scope}"

    @property
    def needs_calibration(self) -> bool:
        """Whether the criterion or the scope needs calibration images."""
        return self.resolved.needs_images or self.scope == "measured"


def any_by_time(methods: Iterable[Method]) -> bool:
    """Whether a method has the budget latency, which needs the times of the layers."""
    return any(method.budget == LATENCY for method in methods)


def as_method(method: Method | Criterion | str) -> Method:
    """Return the method. For a criterion or its name, return the method with the criterion's own scope.

    Raises InputError for anything else.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, Criterion | str):
        return Method(*SHORTHANDS.get(method, (method,))) if isinstance(method, str) else Method(method)
    raise InputError(
        f"method is a {type(method).__name__}; a Method, a criterion object or a criterion's name is expected"
    )
