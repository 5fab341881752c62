"""How the networks of each family are trained: losses, initial weights, and what a teacher must share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsity.training.anchor_free_distillation import anchor_free_distillation_loss
from sparsity.training.anchor_free_loss import AnchorFreeLoss, DistributedSides
from sparsity.training.distillation import distillation_loss
from sparsity.training.loss import DetectionLoss
from sparsity.training.two_branch_loss import TwoBranchLoss, two_branch_distillation_loss
from sparsity.yolo.network import Network
from sparsity.yolo.yolo26.branches import BRANCHES
from sparsity.yolo.yolo26.detect import TwoBranchDetect
from sparsity.yolo.yolov5.architectures import ANCHORS
from sparsity.yolo.yolov5.detect import Detect
from sparsity.yolo.yolov8.detect import AnchorFreeDetect

Maps = Sequence[Tensor]
Distil = Callable[[Maps, Maps], Tensor]
"""The student's and the teacher's raw maps, of every branch -> a loss."""
FIRST_DISTANCE = 2.0
"""The initial distance of a side from the cell's centre, in strides, where it is a number of the raw map."""
Shared = tuple[str, Any, Any]
"""What is compared, the teacher's value, the student's value."""


class Losses(Protocol):
    """The detection loss of a family."""

    def __call__(self, raw: Maps, targets: Tensor, progress: float = 0.0) -> dict[str, Tensor]:
        """Raw maps in training mode, and targets -> the parts of the loss, by the names of EpochLosses.

        progress: of the training: 0 in its first epoch, 1 in its last one.
        """


@dataclass(frozen=True)
class Lesson:
    """How the networks of one family are trained.

    losses: makes the loss, from a head and the network's input size in pixels.
    distil: makes the distillation loss, from a head.
    initialise: gives random weights their initial biases, in place, for an input size.
    shared: lists what teacher and student must have in common besides classes and strides.
    needs: all that they must have in common, as text for an error.
    """

    losses: Callable[[Any, int], Losses]
    distil: Callable[[Any], Distil]
    initialise: Callable[[Any, int], None]
    shared: Callable[[Network, Network], list[Shared]]
    needs: str


def lesson_of(network: Network) -> Lesson:
    """Return the lesson of a network's family."""
    return LESSONS[network.dialect]


def _yolov5_losses(head: Detect, imgsz: int) -> Losses:
    loss = DetectionLoss(head.anchors, head.nc, imgsz)

    def losses(raw: Maps, targets: Tensor, _progress: float = 0.0) -> dict[str, Tensor]:
        found = loss(raw, targets)
        return {"box": found.box, "objectness": found.objectness, "classes": found.classes}

    return losses


def _yolov5_distil(head: Detect) -> Distil:
    return lambda student, teacher: distillation_loss(student, teacher, na=head.na, nc=head.nc)


@torch.no_grad()
def _yolov5_initialise(head: Detect, imgsz: int) -> None:
    """Set the published anchors and the initial biases.

    With these biases, few cells detect something at first (arXiv:1708.02002, 3.3).
    """
    strides = torch.tensor(head.strides).view(-1, 1, 1)
    head.anchors.copy_(torch.tensor(ANCHORS).view(len(head.strides), head.na, 2) / strides)
    for conv, stride in zip(head.m, head.strides, strict=True):
        bias = conv.bias.view(head.na, -1)
        bias[:, 4] = math.log(8 / (imgsz / stride) ** 2)
        bias[:, 5:] = math.log(0.6 / (head.nc - 0.99999))


def _yolov5_shared(teacher: Network, student: Network) -> list[Shared]:
    return [
        ("anchors per cell", teacher.head.na, student.head.na),
        ("anchors", *_anchors(teacher, student)),
    ]


def _anchors(teacher: Network, student: Network) -> tuple[list[float], list[float]]:
    """Return the teacher's and the student's widths and heights in pixels.

    If they differ only by precision, both are the student's.
    """
    theirs, ours = (
        network.head.anchors * torch.tensor(network.strides).view(-1, 1, 1) for network in (teacher, student)
    )
    if theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=0.01):
        theirs = ours
    shown = [[round(side, 1) for side in anchors.flatten().tolist()] for anchors in (theirs, ours)]
    return shown[0], shown[1]


def _yolov8_losses(head: AnchorFreeDetect, _imgsz: int) -> Losses:
    loss = AnchorFreeLoss(head.strides, DistributedSides(head.dfl, head.reg_max))

    def losses(raw: Maps, targets: Tensor, _progress: float = 0.0) -> dict[str, Tensor]:
        found = loss(raw, targets)
        return {"box": found.box, "dfl": found.dfl, "classes": found.classes}

    return losses


def _yolov8_distil(head: AnchorFreeDetect) -> Distil:
    return lambda student, teacher: anchor_free_distillation_loss(student, teacher, reg_max=head.reg_max)


@torch.no_grad()
def _yolov8_initialise(head: AnchorFreeDetect, imgsz: int) -> None:
    """Set the initial biases.

    With them, few cells detect something at first, and near bins are more likely.
    """
    for boxes, classes, stride in zip(head.cv2, head.cv3, head.strides, strict=True):
        boxes[-1].bias.view(-1, head.reg_max).copy_(-torch.arange(head.reg_max) / 4)
        classes[-1].bias.fill_(_first_score(head.nc, imgsz, stride))


def _yolo26_distil(head: TwoBranchDetect) -> Distil:
    return lambda student, teacher: two_branch_distillation_loss(head, student, teacher)


@torch.no_grad()
def _yolo26_initialise(head: TwoBranchDetect, imgsz: int) -> None:
    """Set the initial biases of every branch. With them, few cells detect something at first."""
    for branch in head.branches:
        boxes, classes = (getattr(head, name) for name in BRANCHES[branch])
        for box, score, stride in zip(boxes, classes, head.strides, strict=True):
            box[-1].bias.fill_(FIRST_DISTANCE)
            score[-1].bias.fill_(_first_score(head.nc, imgsz, stride))


def _first_score(nc: int, imgsz: int, stride: int) -> float:
    """Return the logit with which about five cells of a map detect something (arXiv:1708.02002, 3.3)."""
    return math.log(5 / nc / (imgsz / stride) ** 2)


_YOLO26 = Lesson(
    lambda head, _imgsz: TwoBranchLoss(head),
    _yolo26_distil,
    _yolo26_initialise,
    lambda teacher, student: [("heads", teacher.head.branches, student.head.branches)],
    "classes (in order), strides and heads",
)
LESSONS: Mapping[str, Lesson] = {
    "yolov5": Lesson(
        _yolov5_losses,
        _yolov5_distil,
        _yolov5_initialise,
        _yolov5_shared,
        "classes (in order), strides and anchors",
    ),
    "yolov8": Lesson(
        _yolov8_losses,
        _yolov8_distil,
        _yolov8_initialise,
        lambda teacher, student: [("bins per side", teacher.head.reg_max, student.head.reg_max)],
        "classes (in order), strides and bins",
    ),
    "yolo26": _YOLO26,
    "yolo26_one2one": _YOLO26,
}
"""Key of a dialect -> how its networks are trained (see yolo.families)."""
