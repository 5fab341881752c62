"""The settings of a training that were left out: by what is trained, and on how many images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from sparsity.base.errors import InputError
from sparsity.data.augment import NONE, Augmentation
from sparsity.pruning.zeros import count_sparsity
from sparsity.training.settings import TrainingSettings

IMAGES_SEEN = 4800
"""The images, augmented, that a pruned network is trained on in all, whatever their number. Steps decide how
much accuracy comes back, not epochs."""
LEAST_SPARSITY = 0.01
"""The share of zeros from which on a network counts as pruned. Dense checkpoints had up to 4e-6."""
GRADUAL_RATES = {"SGD": 0.01, "AdamW": 0.001, "ScaledAdam": 0.01}
"""The rate where pruning is gradual: a trial before it says little about the network after it."""
FEWEST_EPOCHS, MOST_EPOCHS = 2, 100
STORED_NAMES = {"hue": "hsv_h", "saturation": "hsv_s", "value": "hsv_v", "flip": "fliplr"}
"""Field of an Augmentation -> its name in checkpoints: those that can change the class of an object."""


@dataclass(frozen=True)
class Recipe:
    """Settings for those that were left out. warmup: as a share of the epochs, or None for one epoch.

    nominal_batch None: the batch size. lr0 None: found by a trial (see rate_search).
    """

    optimizer: str
    lr0: float | None
    batch_size: int
    nominal_batch: int | None
    warmup: float | None
    mosaic: float


DENSE = Recipe("SGD", 0.01, 16, 64, None, 1.0)
"""YOLOv5's, for networks that are trained from random weights, or without zeros."""
PRUNED = Recipe("ScaledAdam", None, 8, None, 0.05, 0.5)
"""For networks with zeros: small steps from weights that work already."""


def is_pruned(network: nn.Module) -> bool:
    """Whether the weights of a network were pruned. A dense one has some zeros, too: by rounding to half."""
    return count_sparsity(network).conv >= LEAST_SPARSITY


def complete(settings: TrainingSettings, images: int, *, pruned: bool) -> TrainingSettings:
    """Return the settings with all that was left out; lr0 stays None where it is to be found.

    images: the number of training images. pruned: whether the network has zeros, or gets some.
    With lr0 and no optimizer, the optimizer is SGD, whose rate it has always been.
    Raises InputError where pruning takes more epochs than there are.
    """
    recipe = PRUNED if pruned and not settings.sparse_train else DENSE
    optimizer = settings.optimizer or (recipe.optimizer if settings.lr0 is None else DENSE.optimizer)
    epochs = settings.epochs or (_epochs(images, settings.gradual) if recipe is PRUNED else 10)
    if settings.gradual > epochs:
        raise InputError(f"`gradual` is {settings.gradual}, more than the {epochs} epochs")
    batch_size = settings.batch_size or recipe.batch_size
    warmup = 1.0 if recipe.warmup is None else recipe.warmup * epochs
    lr0 = GRADUAL_RATES[optimizer] if settings.gradual else recipe.lr0
    return replace(
        settings,
        epochs=epochs,
        batch_size=batch_size,
        nominal_batch=settings.nominal_batch or recipe.nominal_batch or batch_size,
        optimizer=optimizer,
        lr0=lr0 if settings.lr0 is None else settings.lr0,
        warmup=warmup if settings.warmup is None else settings.warmup,
        mosaic=recipe.mosaic if settings.mosaic is None else settings.mosaic,
    )


def augmentation_of(settings: TrainingSettings, trained_with: Mapping[str, float]) -> Augmentation:
    """Return the augmentation of a training. Flips and colours are those of the checkpoint's own training.

    A mirrored arrow or letter can be of another class, and a colour can tell two classes apart: whoever
    trained the checkpoint knew. settings: complete. trained_with: of the network; it may tell nothing.
    """
    if not settings.augment:
        return NONE
    own = {field: trained_with[name] for field, name in STORED_NAMES.items() if name in trained_with}
    return Augmentation(mosaic=settings.mosaic, **own)


def describe_augmentation(augmentation: Augmentation) -> str:
    """Return a line about flips and colours that differ from the default; "" where none does."""
    fields = {field: (getattr(augmentation, field), getattr(Augmentation(), field)) for field in STORED_NAMES}
    differing = [f"{name} {own:g}, not {usual:g}" for name, (own, usual) in fields.items() if own != usual]
    return f"Augmentation... as the checkpoint was trained: {'; '.join(differing)}" if differing else ""


def _epochs(images: int, gradual: int) -> int:
    """Return the epochs in which IMAGES_SEEN are seen, within limits, and at least twice the gradual ones."""
    fitting = math.ceil(IMAGES_SEEN / max(1, images))
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, fitting), 2 * gradual)
