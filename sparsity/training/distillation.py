"""The distillation loss: a pruned detector's raw maps against those of the dense one it came from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sparsity.base.errors import InputError
from sparsity.training.loss import CLASSES_GAIN, OBJECTNESS_GAIN, balance_of

LEAST_WEIGHT = 1e-6


def distillation_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], *, na: int, nc: int) -> Tensor:
    """Divergence of the student's raw maps from the teacher's, float32 scalar, 0 where they are equal.

    student, teacher: a level each, [batch, na * (5 + nc), height, width]; the teacher gets no gradient.
    na: anchors a level. nc: number of classes.

    Boxes and classes count cell by cell as much as the teacher sees an object there (arXiv:1805.06361).
    Gains and batch size are included, so that it adds to the detection loss's total (of 640 pixels).
    Raises InputError where the shapes differ, or the levels are not 3 or 4.
    """
    check_shapes(student, teacher, "classes, anchors and strides")
    pairs = zip(student, teacher, balance_of(len(student)), strict=True)
    levels = [_level(_cells(x, na, nc), _cells(y.detach(), na, nc), balance) for x, y, balance in pairs]
    return torch.stack(levels).sum() * (3 / len(levels) * len(student[0]))


def _level(student: Tensor, teacher: Tensor, balance: float) -> Tensor:
    """One level's cells [batch, na, height, width, 5 + nc] of both -> its terms' sum, gains included."""
    wanted = teacher[..., 4:].sigmoid()
    away = divergence(student[..., 4:], teacher[..., 4:], wanted)
    objectness = away[..., 0].mean() * (balance * OBJECTNESS_GAIN)
    classes = away[..., 1:].mean(-1) * (CLASSES_GAIN * away[..., 1:].shape[-1] / 80)
    # Without a gain: as it stands, the squared distance has the size of BOX_GAIN x (1 - CIoU).
    boxes = (student[..., :4].sigmoid() - teacher[..., :4].sigmoid()).square().sum(-1)
    weights = wanted[..., 0]
    return objectness + (weights * (boxes + classes)).sum() / weights.sum().clamp(min=LEAST_WEIGHT)


def divergence(student: Tensor, teacher: Tensor, wanted: Tensor) -> Tensor:
    """Logits of both and the teacher's sigmoids -> cross-entropy less the teacher's entropy, same shape."""
    return softplus(student) - softplus(teacher) - wanted * (student - teacher)


def _cells(raw: Tensor, na: int, nc: int) -> Tensor:
    """Raw map -> float32 [batch, na, height, width, 5 + nc]."""
    return raw.float().unflatten(1, (na, 5 + nc)).permute(0, 1, 3, 4, 2)


def check_shapes(student: Sequence[Tensor], teacher: Sequence[Tensor], same: str) -> None:
    """Raise InputError where maps can't be compared. same: what networks share whose maps can."""
    need = f"teacher and student need the same {same}"
    if len(student) != len(teacher):
        raise InputError(f"{need}: the teacher has {len(teacher)} levels, the student {len(student)}")
    for level, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if ours.shape != theirs.shape:
            shapes = f"the teacher's is {list(theirs.shape)}, the student's {list(ours.shape)}"
            raise InputError(f"{need}: of the raw maps of level {level}, {shapes}")
