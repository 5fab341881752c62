"""The losses of YOLO26: those of its two branches, of which the first one's weight falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparsity.training.alignment import Assigner
from sparsity.training.anchor_free_distillation import anchor_free_distillation_loss
from sparsity.training.anchor_free_loss import AnchorFreeLoss, PlainSides
from sparsity.training.distillation import check_shapes
from sparsity.yolo.yolo26.branches import ONE2MANY, ONE2ONE
from sparsity.yolo.yolo26.detect import TwoBranchDetect

FIRST_WEIGHT, LAST_WEIGHT = 0.8, 0.1
"""The weight of the one-to-many branch in the first and in the last epoch."""
CELLS: Mapping[str, tuple[int, int]] = {ONE2MANY: (10, 0), ONE2ONE: (7, 1)}
"""Branch -> how many cells are assigned to a target, and how many of these keep it (see Assigner)."""


def one2many_weight(progress: float) -> float:
    """Return the weight of the one-to-many branch. progress: 0 in the first epoch, 1 in the last one."""
    return FIRST_WEIGHT + (LAST_WEIGHT - FIRST_WEIGHT) * progress


class TwoBranchLoss:
    """The weighted sum of the losses of both branches; of one alone, its loss.

    head: the head that gives the raw maps.

    Each branch has the loss of an anchor-free head with plain sides. In the one-to-many branch, ten cells
    learn a target; in the one-to-one branch, the best of seven does. A target's side that is smaller than the
    second stride counts as that stride when the cells that lie in the target are found.
    """

    def __init__(self, head: TwoBranchDetect) -> None:
        self.head = head
        smallest = head.strides[min(1, len(head.strides) - 1)]
        self._losses = {
            branch: AnchorFreeLoss(head.strides, PlainSides(), Assigner(*CELLS[branch], smallest))
            for branch in head.branches
        }

    def __call__(self, raw: Sequence[Tensor], targets: Tensor, progress: float = 0.0) -> dict[str, Tensor]:
        """Raw maps of every branch and targets -> the parts of the loss. progress: see one2many_weight.

        targets: float [n, 6]: index of the image, class, cx, cy, w, h, normalised to 0..1. n can be 0.
        """
        weights = self._weights(progress)
        parts: dict[str, list[Tensor]] = {"box": [], "dfl": [], "classes": []}
        for branch, maps in self.head.by_branch(raw).items():
            found = self._losses[branch](maps, targets)
            for name, values in parts.items():
                values.append(getattr(found, name) * weights[branch])
        return {name: torch.stack(values).sum() for name, values in parts.items()}

    def _weights(self, progress: float) -> dict[str, float]:
        if len(self._losses) == 1:
            return dict.fromkeys(self._losses, 1.0)
        first = one2many_weight(progress)
        return {ONE2MANY: first, ONE2ONE: 1 - first}


def two_branch_distillation_loss(
    head: TwoBranchDetect, student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Tensor:
    """Return the student's divergence from the teacher, the mean over the branches, a float32 scalar.

    head: the student's. student, teacher: raw maps of every branch; both hold the same ones.
    Raises InputError if the shapes differ.
    """
    check_shapes(student, teacher, "heads, classes and strides")
    theirs = head.by_branch(teacher)
    losses = [
        anchor_free_distillation_loss(maps, theirs[branch], reg_max=head.reg_max)
        for branch, maps in head.by_branch(student).items()
    ]
    return torch.stack(losses).mean()
