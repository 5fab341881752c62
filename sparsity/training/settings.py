"""Training settings. What is left out is chosen by the training's recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.pruning.budgets import WEIGHTS, check_budget
from sparsity.pruning.criteria import CRITERIA, SHORTHANDS
from sparsity.pruning.scopes import SCOPES, check_amount

OPTIMIZERS = ("SGD", "AdamW", "ScaledAdam")
LEFT_OUT = ("epochs", "batch_size", "nominal_batch", "lr0", "warmup", "mosaic")
"""The numbers that can be None."""
RECIPES: Mapping[str, float] = {"yolov5": 10.0, "yolov8": 1.0}
"""Recipe of sparse training -> the penalty on shifts, relative to the initial penalty on scales."""


@dataclass(frozen=True)
class TrainingSettings:
    """What is pruned, and how the rest is trained.

    amount, criterion, scope: how much is pruned and how, before the first step. criterion "": obs, which
    learns from training images; l1 where nothing is pruned or where pruning is gradual.
    budget: what amount is a share of: weights, flops (the multiply-adds) or latency (see Method).
    depthwise: whether depthwise layers are pruned as others are; False: they stay dense.
    gradual: if above 0, the network is pruned step by step in this number of first epochs instead.
    calib_images: number of training images for criterion "obs".
    epochs, batch_size, nominal_batch, optimizer, lr0, warmup, mosaic: None, and "" for optimizer: by the
    recipe (see recipes.complete).
    optimizer: SGD, AdamW, or ScaledAdam, whose lr0 is a share of each tensor's size (see optimizer).
    lr0, lrf: the initial learning rate, and the final one as a fraction of it, with a cosine in between.
    warmup: epochs of rising learning rate.
    freeze_bn: keep the statistics of the batch norms. "obs" always does, because its weights depend on them.
    noval: validate after the last epoch only.
    nominal_batch: gradients are accumulated over batches until this number of images is reached.
    decay: weight decay. It applies to the weights of convolutions and linear layers.
    sparse_train: rate of the L1 penalty on the scales of batch norms (see sparse_training.ScalePenalty).
    sparse_recipe: a key of RECIPES. tied: also penalise channels that residual additions tie.
    mosaic: the probability that an image is composed of four. augment: whether images are augmented.
    patience: training ends after this number of epochs without a better AP.
    distil: weight of the distillation loss. blocks: weight of the error of the blocks' outputs against those
    of a teacher with the same layers (see imitation.blocks_error).
    """

    amount: float = 0.0
    criterion: str = ""
    scope: str = ""
    budget: str = WEIGHTS
    depthwise: bool = False
    gradual: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    nominal_batch: int | None = None
    imgsz: int = 640
    optimizer: str = ""
    lr0: float | None = None
    lrf: float = 0.01
    momentum: float = 0.937
    decay: float = 5e-4
    warmup: float | None = None
    distil: float = 1.0
    blocks: float = 1.0
    patience: int = 100
    mosaic: float | None = None
    augment: bool = True
    calib_images: int = 64
    freeze_bn: bool = False
    noval: bool = False
    sparse_train: float = 0.0
    sparse_recipe: str = "yolov5"
    tied: bool = False
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        check_amount(self.amount)
        self._take_method()
        check_budget(self.budget)
        _check_word("optimizer", self.optimizer, ("", *OPTIMIZERS))
        _check_word("sparse_recipe", self.sparse_recipe, tuple(RECIPES))
        self._check_numbers()
        self._check_together()

    def _take_method(self) -> None:
        """Replace a shorthand by what it stands for, and empty words by the defaults."""
        name = self.criterion or ("obs" if self.amount and not self.gradual else "l1")
        _check_word("criterion", name, (*CRITERIA, *SHORTHANDS))
        criterion, scope = SHORTHANDS.get(name, (name, self.scope))
        if self.scope not in ("", scope):
            raise InputError(
                f"`scope` is {self.scope!r}, but `criterion` {name} already names an allocation; "
                "leave out `scope`"
            )
        scope = scope or CRITERIA[criterion].own_scope
        _check_word("scope", scope, SCOPES)
        object.__setattr__(self, "criterion", criterion)
        object.__setattr__(self, "scope", scope)

    @property
    def needs_images(self) -> bool:
        """Whether the criterion needs images."""
        return CRITERIA[self.criterion].needs_images

    def _check_numbers(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "nominal_batch": 1, "imgsz": 32, "gradual": 0}
        for name, lowest in (least | {"patience": 1, "workers": 0, "seed": 0, "calib_images": 1}).items():
            value = getattr(self, name)
            if value is None and name in LEFT_OUT:
                continue
            if not isinstance(value, int) or value < lowest:
                raise InputError(f"`{name}` is {value!r}; a whole number from {lowest} on is expected")
        most = {
            "lr0": math.inf,
            "lrf": 1,
            "momentum": 1,
            "decay": 1,
            "mosaic": 1,
            "warmup": math.inf,
            "distil": math.inf,
            "blocks": math.inf,
            "sparse_train": math.inf,
        }
        for name, highest in most.items():
            value = getattr(self, name)
            if value is None and name in LEFT_OUT:
                continue
            if not 0 <= value <= highest or not math.isfinite(value):
                span = f"0 to {highest}" if math.isfinite(highest) else "a finite number from 0 on"
                raise InputError(f"`{name}` is {value!r}; {span} is expected")

    def _check_together(self) -> None:
        """Raise InputError for settings that exclude or need each other."""
        if self.scope == "measured" and not self.needs_images:
            raise InputError("`scope` measured needs images, so it goes with `criterion` obs only")
        if self.gradual and self.needs_images:
            raise InputError("`gradual` prunes by magnitude; leave it out with `criterion` obs")
        if self.tied and not self.sparse_train:
            raise InputError("`tied` goes with `sparse_train`, the penalty on scales; give that a rate, too")
        if self.sparse_recipe != TrainingSettings.sparse_recipe and not self.sparse_train:
            raise InputError(
                "`sparse_recipe` goes with `sparse_train`, the penalty on scales; give that a rate, too"
            )

    @property
    def keeps_statistics(self) -> bool:
        """Whether batch norms use and keep their stored statistics, as in validation."""
        return self.freeze_bn or (self.amount > 0 and CRITERIA[self.criterion].updates_weights)

    @property
    def accumulate(self) -> int:
        """Batches per optimiser step."""
        return max(1, round(self.nominal_batch / self.batch_size))


def _check_word(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        *others, last = filter(None, known)
        words = f"{', '.join(others)} or {last}"
        raise InputError(f"`{name}` is {value!r}; {words} is expected")
