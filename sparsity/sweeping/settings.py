"""What to sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from sparsity.base.errors import InputError
from sparsity.engines.table import ENGINES, TORCH
from sparsity.pruning.method import Method, as_method
from sparsity.sweeping.defaults import BATCH_SIZES, BOOTSTRAP
from sparsity.sweeping.level import Level, plan
from sparsity.timing.latency import Rounds
from sparsity.validation.settings import ValidationSettings, comparable

MOST_BATCH = 4096


@dataclass(frozen=True)
class SweepSettings:
    """What to sweep; see ValidationSettings for how each level is validated.

    amounts: fractions in [0, 1); the dense baseline comes by itself. methods: by which each is pruned.
    engines: in which each runs; all but torch compute in float32 on the CPU, and torch then with them.
    compact: take dead channels out of each level.
    batch_sizes: at which latency is measured; none to leave it out. bootstrap: how many times the images
    are drawn anew to tell how far differences of AP are theirs; 0 to leave it out.
    """

    amounts: Sequence[float]
    methods: Sequence[Method] = field(default_factory=lambda: (Method(),))
    batch_sizes: Sequence[int] = BATCH_SIZES
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    engines: Sequence[str] = (TORCH,)
    compact: bool = False
    rounds: Rounds = field(default_factory=Rounds)
    bootstrap: int = BOOTSTRAP

    def __post_init__(self) -> None:
        """Keep the sequences as tuples. Raise InputError for a value out of range."""
        if isinstance(self.amounts, Real):
            raise InputError(f"amounts is {self.amounts!r}; a list of fractions is expected")
        for name in ("amounts", "methods", "batch_sizes", "engines"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.engines:
            raise InputError(f"--engines is empty; one or more of {', '.join(ENGINES)} are expected")
        object.__setattr__(self, "validation", comparable(self.validation, self.engines))
        object.__setattr__(self, "methods", tuple(as_method(method) for method in self.methods))
        self.plan()
        if not isinstance(self.bootstrap, Integral) or self.bootstrap < 0:
            raise InputError(f"--bootstrap is {self.bootstrap!r}; 0 (off) or more resamples are expected")
        for size in self.batch_sizes:
            if not isinstance(size, Integral) or not 1 <= size <= MOST_BATCH:
                raise InputError(
                    f"--batch-sizes: {size!r}; whole numbers from 1 to {MOST_BATCH} are expected"
                )
        object.__setattr__(self, "batch_sizes", tuple(int(size) for size in self.batch_sizes))
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            raise InputError("--batch-sizes: a size is named twice")

    def plan(self) -> tuple[Level, ...]:
        """The levels."""
        return plan(self.amounts, self.methods, self.engines)
