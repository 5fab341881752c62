"""What each family's networks learn by: loss, distillation, first weights, and what a teacher must share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsity.training.anchor_free_distillation import anchor_free_distillation_loss
from sparsity.training.anchor_free_loss import AnchorFreeLoss
from sparsity.training.distillation import distillation_loss
from sparsity.training.loss import DetectionLoss
from sparsity.yolo.network import Network
from sparsity.yolo.yolov5.architectures import ANCHORS
from sparsity.yolo.yolov5.detect import Detect
from sparsity.yolo.yolov8.detect import AnchorFreeDetect

Maps = Sequence[Tensor]
Losses = Callable[[Maps, Tensor], dict[str, Tensor]]
"""Raw maps and targets -> the loss's parts, by the names of EpochLosses."""
Distil = Callable[[Maps, Maps], Tensor]
"""The student's and the teacher's raw maps -> a loss."""
Shared = tuple[str, Any, Any]
"""What it is, the teacher's, the student's."""


@dataclass(frozen=True)
class Lesson:
    """One family's. losses, distil: made for a head (and the network's size in pixels).

    initialise: gives random weights the biases to begin with, in place, for that size.
    shared: what teacher and student of the family must have in common beside classes and strides; needs: that
    in words.
    """

    losses: Callable[[Any, int], Losses]
    distil: Callable[[Any], Distil]
    initialise: Callable[[Any, int], None]
    shared: Callable[[Network, Network], list[Shared]]
    needs: str


def lesson_of(network: Network) -> Lesson:
    """The lesson of a network's family."""
    return LESSONS[network.dialect]


def _yolov5_losses(head: Detect, imgsz: int) -> Losses:
    loss = DetectionLoss(head.anchors, head.nc, imgsz)

    def losses(raw: Maps, targets: Tensor) -> dict[str, Tensor]:
        found = loss(raw, targets)
        return {"box": found.box, "objectness": found.objectness, "classes": found.classes}

    return losses


def _yolov5_distil(head: Detect) -> Distil:
    return lambda student, teacher: distillation_loss(student, teacher, na=head.na, nc=head.nc)


@torch.no_grad()
def _yolov5_initialise(head: Detect, imgsz: int) -> None:
    """Anchors as published; biases so that few cells find something at first (arXiv:1708.02002, 3.3)."""
    strides = torch.tensor(head.strides).view(-1, 1, 1)
    head.anchors.copy_(torch.tensor(ANCHORS).view(len(head.strides), head.na, 2) / strides)
    for conv, stride in zip(head.m, head.strides, strict=True):
        bias = conv.bias.view(head.na, -1)
        bias[:, 4] = math.log(8 / (imgsz / stride) ** 2)
        bias[:, 5:] = math.log(0.6 / (head.nc - 0.99999))


def _yolov5_shared(teacher: Network, student: Network) -> list[Shared]:
    return [
        ("anchors a level", teacher.head.na, student.head.na),
        ("anchors", *_anchors(teacher, student)),
    ]


def _anchors(teacher: Network, student: Network) -> tuple[list[float], list[float]]:
    """Both's widths and heights in pixels; the student's twice where they differ by precision alone."""
    theirs, ours = (
        network.head.anchors * torch.tensor(network.strides).view(-1, 1, 1) for network in (teacher, student)
    )
    if theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=0.01):
        theirs = ours
    shown = [[round(side, 1) for side in anchors.flatten().tolist()] for anchors in (theirs, ours)]
    return shown[0], shown[1]


def _yolov8_losses(head: AnchorFreeDetect, _imgsz: int) -> Losses:
    loss = AnchorFreeLoss(head)

    def losses(raw: Maps, targets: Tensor) -> dict[str, Tensor]:
        found = loss(raw, targets)
        return {"box": found.box, "dfl": found.dfl, "classes": found.classes}

    return losses


def _yolov8_distil(head: AnchorFreeDetect) -> Distil:
    return lambda student, teacher: anchor_free_distillation_loss(student, teacher, reg_max=head.reg_max)


@torch.no_grad()
def _yolov8_initialise(head: AnchorFreeDetect, imgsz: int) -> None:
    """Biases so that few cells find something at first (arXiv:1708.02002, 3.3), near bins likelier."""
    for boxes, classes, stride in zip(head.cv2, head.cv3, head.strides, strict=True):
        boxes[-1].bias.view(-1, head.reg_max).copy_(-torch.arange(head.reg_max) / 4)
        classes[-1].bias.fill_(math.log(5 / head.nc / (imgsz / stride) ** 2))


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
        lambda teacher, student: [("bins a side", teacher.head.reg_max, student.head.reg_max)],
        "classes (in order), strides and bins",
    ),
}
"""By the key of the family (see yolo.families)."""
