"""How to train; the defaults are those of YOLOv5's recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from sparsity.errors import InputError
from sparsity.pruning.apply import Scope, check_amount

OPTIMIZERS = ("SGD", "AdamW")


@dataclass(frozen=True)
class TrainingSettings:
    """What is pruned, and how the rest is trained.

    amount, scope: pruned before the first step, or along the first gradual epochs where those are not 0.
    lr0, lrf: the first learning rate, and the last as a share of it (cosine between). warmup: epochs.
    nominal_batch: gradients gather until as many images are through. decay: of the convolutions' weights.
    mosaic: the probability that an image is put together from four. augment: whether to augment at all.
    patience: epochs without a better AP after which training ends. distil: the distillation's weight.
    """

    amount: float = 0.0
    scope: Scope = "layer"
    gradual: int = 0
    epochs: int = 10
    batch_size: int = 16
    nominal_batch: int = 64
    imgsz: int = 640
    optimizer: str = "SGD"
    lr0: float = 0.01
    lrf: float = 0.01
    momentum: float = 0.937
    decay: float = 5e-4
    warmup: float = 1.0
    distil: float = 1.0
    patience: int = 100
    mosaic: float = 1.0
    augment: bool = True
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        check_amount(self.amount)
        if self.scope not in get_args(Scope):
            raise InputError(f"--scope is {self.scope!r}; one of {', '.join(get_args(Scope))} is expected")
        least = {"epochs": 1, "batch_size": 1, "nominal_batch": 1, "imgsz": 32, "gradual": 0}
        for name, lowest in (least | {"patience": 1, "workers": 0, "seed": 0}).items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < lowest:
                raise InputError(f"--{_flag(name)} is {value!r}; a whole number from {lowest} on is expected")
        most = {
            "lr0": math.inf,
            "lrf": 1,
            "momentum": 1,
            "decay": 1,
            "mosaic": 1,
            "warmup": math.inf,
            "distil": math.inf,
        }
        for name, highest in most.items():
            value = getattr(self, name)
            if not 0 <= value <= highest or not math.isfinite(value):
                raise InputError(f"--{_flag(name)} is {value!r}; 0 to {highest} is expected")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"--optimizer is {self.optimizer!r}; {' or '.join(OPTIMIZERS)} is expected")
        if self.gradual > self.epochs:
            raise InputError(f"--gradual is {self.gradual}, more than the {self.epochs} epochs")

    @property
    def accumulate(self) -> int:
        """Batches to a step."""
        return max(1, round(self.nominal_batch / self.batch_size))


def _flag(name: str) -> str:
    return name.replace("_", "-")
