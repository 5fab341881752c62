"""The distillation loss of anchor-free heads: a pruned detector's raw maps against the dense detector's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, smooth_l1_loss

from sparsity.training.anchor_free_loss import CLASSES_GAIN, DISTRIBUTION_GAIN
from sparsity.training.distillation import check_shapes, divergence
from sparsity.yolo.yolov8.detect import SIDES


def anchor_free_distillation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, reg_max: int
) -> Tensor:
    """Return the student's divergence from the teacher, a float32 scalar, 0 if their raw maps are equal.

    student, teacher: a map per stride, [batch, 4 * reg_max + nc, height, width]. The teacher gets no
    gradient.
    Classes count in every cell. The distributions of the sides count by their Kullback-Leibler divergence
    (localization distillation, arXiv:2102.12252). Where reg_max is 1, sides are distances: their differences,
    in strides, count by the smooth L1 loss. Both are weighted by the teacher's best class score in the cell.
    Gains and batch size are included, so that the result can be added to the total of the detection loss.
    Raises InputError if the shapes differ.
    """
    check_shapes(student, teacher, "classes and strides")
    ours, theirs = _flat(student), _flat([x.detach() for x in teacher])
    box_numbers = SIDES * reg_max
    wanted = theirs[:, box_numbers:].sigmoid()
    classes = divergence(ours[:, box_numbers:], theirs[:, box_numbers:], wanted).sum()
    weights = wanted.amax(1)
    away = _sides_away(ours[:, :box_numbers], theirs[:, :box_numbers], reg_max)
    total = classes * CLASSES_GAIN + (away * weights).sum() * DISTRIBUTION_GAIN
    return total / weights.sum().clamp(min=1) * len(student[0])


def _sides_away(ours: Tensor, theirs: Tensor, reg_max: int) -> Tensor:
    """Box numbers [batch, 4 * reg_max, cells] of both -> how far apart they are, [batch, cells]."""
    if reg_max == 1:
        return smooth_l1_loss(ours, theirs, reduction="none").mean(1)
    sides = [log_softmax(x.unflatten(1, (SIDES, reg_max)), 2) for x in (ours, theirs)]
    return (sides[1].exp() * (sides[1] - sides[0])).sum(2).mean(1)


def _flat(raw: Sequence[Tensor]) -> Tensor:
    """Raw maps -> float32 [batch, numbers, cells]."""
    return torch.cat([x.float().flatten(2) for x in raw], 2)
