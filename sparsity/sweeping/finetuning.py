"""How the levels of a sweep are trained after pruning."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparsity.base.errors import InputError
from sparsity.sweeping.defaults import DENSE, PRUNED_FROM
from sparsity.training.preparation import Material
from sparsity.training.settings import TrainingSettings
from sparsity.validation.settings import ValidationSettings

EPOCHS = 5
"""The epochs of each training where no settings are given."""


@dataclass(frozen=True)
class Finetuning:
    """How each level of a sweep is trained after pruning, with its zeros kept.

    material: the checkpoint that the swept network was loaded from, with its batch norms; labelled images
    (train of data); a teacher, and images without labels for it. settings: of each training. They prune
    nothing: amount and gradual stay 0. The network of the last epoch is taken; no epoch is validated.
    prune_from: "dense", or "below": each level is pruned from the fine-tuned network of the next smaller
    level of its method, whose zeros stay; the smallest one from the dense network.
    device: where the trainings run, and in which precision (the fields device and half).
    Raises InputError for settings that prune, or that are for other trainings.
    """

    material: Material
    settings: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=EPOCHS))
    prune_from: str = DENSE
    device: ValidationSettings = field(default_factory=ValidationSettings)

    def __post_init__(self) -> None:
        """Raise InputError for values that do not go with a sweep."""
        if self.prune_from not in PRUNED_FROM:
            raise InputError(f"`prune_from` is {self.prune_from!r}; {' or '.join(PRUNED_FROM)} is expected")
        if not self.material.weights or not self.material.data:
            raise InputError("the trainings of a sweep need `weights`, and `data` with labelled images")
        for name in ("amount", "gradual", "sparse_train"):
            if getattr(self.settings, name):
                raise InputError(
                    f"`{name}` is {getattr(self.settings, name)}; 0 is expected, since the sweep prunes"
                )
        if self.settings.epochs is None:
            raise InputError("`epochs` is None; the number of epochs of each level's training is expected")


def of_training(message: str) -> str:
    """Return an error of a training as a sweep has it: its batch size is not that of the validation."""
    return message.replace("`batch_size`", "`train_batch_size`")
