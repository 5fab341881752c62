"""The settings of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from sparsity.base.errors import InputError
from sparsity.engines.table import ENGINES, TORCH
from sparsity.pruning.method import Method, as_method
from sparsity.sweeping.defaults import BATCH_SIZES, BOOTSTRAP
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.level import Level, plan
from sparsity.sweeping.networks import check_saved
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT
from sparsity.timing.latency import Rounds
from sparsity.validation.settings import ValidationSettings, comparable

MOST_BATCH = 4096


@dataclass(frozen=True)
class SweepSettings:
    """What to sweep; see ValidationSettings for how each level is validated.

    amounts: fractions in [0, 1); the dense baseline is added. methods: each prunes at every amount.
    engines: each runs every level. All but torch compute in float32 on the CPU, and so does torch with them.
    compact: whether dead channels are removed from each level.
    batch_sizes: the batch sizes at which latency is measured; () for no latency. rounds: how often it is
    measured. bootstrap: the number of resamples of the images for the intervals of differences in AP; 0 for
    no intervals.
    save: which pruned networks are kept, as levels/KEY/network.safetensors: "" for none, "all", or "best" for
    that with the largest sparsity that keeps 95% of the dense AP. It does not change the figures.
    finetune: how each level is trained after pruning, and measured again; None for no training.
    """

    amounts: Sequence[float]
    methods: Sequence[Method] = field(default_factory=lambda: (Method(),))
    batch_sizes: Sequence[int] = BATCH_SIZES
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    engines: Sequence[str] = (TORCH,)
    compact: bool = False
    rounds: Rounds = field(default_factory=Rounds)
    bootstrap: int = BOOTSTRAP
    save: str = ""
    finetune: Finetuning | None = None

    def __post_init__(self) -> None:
        """Store the sequences as tuples. Raises InputError for a value out of range."""
        if isinstance(self.amounts, Real | str):
            raise InputError(f"`amounts` is {self.amounts!r}; a list of fractions is expected")
        for name in ("amounts", "methods", "batch_sizes", "engines"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.engines:
            raise InputError(f"`engines` is empty; one or more of {', '.join(ENGINES)} are expected")
        object.__setattr__(self, "validation", comparable(self.validation, self.engines))
        object.__setattr__(self, "methods", tuple(as_method(method) for method in self.methods))
        self.plan()
        check_saved(self.save)
        if not isinstance(self.bootstrap, Integral) or self.bootstrap < 0:
            raise InputError(
                f"`bootstrap` is {self.bootstrap!r}; a number of resamples, or 0 for none, is expected"
            )
        for size in self.batch_sizes:
            if not isinstance(size, Integral) or not 1 <= size <= MOST_BATCH:
                raise InputError(
                    f"`batch_sizes`: {size!r}; whole numbers from 1 to {MOST_BATCH} are expected"
                )
        object.__setattr__(self, "batch_sizes", tuple(int(size) for size in self.batch_sizes))
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            raise InputError("`batch_sizes` contains a size twice; different sizes are expected")

    def plan(self) -> tuple[Level, ...]:
        """Return the levels."""
        return plan(self.amounts, self.methods, self.engines, self.stages)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages at which each level is measured."""
        return (ONE_SHOT,) if self.finetune is None else (ONE_SHOT, FINE_TUNED)
