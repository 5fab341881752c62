"""The distillation loss: a pruned detector's raw maps against those of the dense detector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sparsity.base.errors import InputError
from sparsity.training.loss import CLASSES_GAIN, OBJECTNESS_GAIN, balance_of

LEAST_WEIGHT = 1e-6
LEAST_OBJECTNESS = 1e-3
"""The teacher's objectness from which on boxes and classes of a cell are compared: few of all cells."""


def distillation_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], *, na: int, nc: int) -> Tensor:
    """Return the student's divergence from the teacher, a float32 scalar, 0 if their raw maps are equal.

    student, teacher: a map per stride, [batch, na * (5 + nc), height, width]. The teacher gets no gradient.
    na: anchors per cell. nc: number of classes.

    Objectness counts in every cell. Boxes and classes are weighted by the teacher's objectness in the cell
    (arXiv:1805.06361), where that is at least LEAST_OBJECTNESS. Gains and batch size are included, so that
    the result can be added to the total of the detection loss (for 640 pixels). Raises InputError if the
    shapes differ, or if there are not 3 or 4 maps.
    """
    check_shapes(student, teacher, "classes, anchors and strides")
    pairs = zip(student, teacher, balance_of(len(student)), strict=True)
    terms = [_map_loss(_cells(x, na, nc), _cells(y.detach(), na, nc), balance) for x, y, balance in pairs]
    return torch.stack(terms).sum() * (3 / len(terms) * len(student[0]))


def _map_loss(student: Tensor, teacher: Tensor, balance: float) -> Tensor:
    """Cells [batch, na, height, width, 5 + nc] of one raw map of both -> the sum of its terms, with gains."""
    weights = teacher[..., 4].sigmoid()
    objectness = divergence(student[..., 4], teacher[..., 4], weights).mean() * (balance * OBJECTNESS_GAIN)
    seen = weights >= LEAST_OBJECTNESS
    weights, student, teacher = weights[seen], student[seen], teacher[seen]
    wanted = teacher[:, 5:].sigmoid()
    classes = divergence(student[:, 5:], teacher[:, 5:], wanted).sum(-1) * (CLASSES_GAIN / 80)
    # No gain is needed: the squared distance has the size of BOX_GAIN x (1 - CIoU).
    boxes = (student[:, :4].sigmoid() - teacher[:, :4].sigmoid()).square().sum(-1)
    return objectness + (weights * (boxes + classes)).sum() / weights.sum().clamp(min=LEAST_WEIGHT)


def divergence(student: Tensor, teacher: Tensor, wanted: Tensor) -> Tensor:
    """Logits of both, and the teacher's sigmoids -> cross-entropy minus the teacher's entropy, same shape."""
    return softplus(student) - softplus(teacher) - wanted * (student - teacher)


def _cells(raw: Tensor, na: int, nc: int) -> Tensor:
    """Raw map -> float32 [batch, na, height, width, 5 + nc]."""
    return raw.float().unflatten(1, (na, 5 + nc)).permute(0, 1, 3, 4, 2)


def check_shapes(student: Sequence[Tensor], teacher: Sequence[Tensor], same: str) -> None:
    """Raise InputError if the raw maps cannot be compared. same: what both networks must have in common."""
    need = f"teacher and student need the same {same}"
    if len(student) != len(teacher):
        raise InputError(f"{need}: the teacher has {len(teacher)} raw maps, the student {len(student)}")
    for index, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if ours.shape != theirs.shape:
            shapes = f"the teacher's is {list(theirs.shape)}, the student's {list(ours.shape)}"
            raise InputError(f"{need}: of raw map {index}, {shapes}")
