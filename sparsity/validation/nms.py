"""Exact greedy non-maximum suppression, class by class, for a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.base.boxes import box_iou_xyxy

MOST_CANDIDATES = 30_000
BLOCK = {"cpu": 256}
"""Boxes that are compared at once: few where arithmetic costs, many where launching a kernel does."""
LARGE_BLOCK = 2048


@dataclass(frozen=True)
class Detections:
    """One image's detections, best score first.

    boxes_xyxy: float32 [n, 4] in pixels. scores: float32 [n]. classes: int64 [n].
    """

    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def cpu(self) -> Detections:
        """The same in main memory."""
        return Detections(self.boxes_xyxy.cpu(), self.scores.cpu(), self.classes.cpu())


def non_maximum_suppression(
    image: Tensor,
    boxes_xyxy: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    images: int,
    iou_thres: float,
    max_det: int,
    agnostic: bool = False,
) -> list[Detections]:
    """Keep each image's best boxes, without those that overlap a better one of their class.

    image, boxes_xyxy, scores, classes: [n], [n, 4], [n], [n], the candidates of all images.
    A box goes where its IoU with a kept box of the same class (any class if agnostic) is above
    iou_thres. Of each image the 30,000 best candidates count and the max_det best are kept.
    The result is that of the textbook's loop over boxes by falling score, whatever it takes.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(image[order], stable=True)]
    counts = torch.bincount(image, minlength=images).tolist()
    detections = []
    for index in torch.split(order, counts):
        index = index[:MOST_CANDIDATES]
        boxes, labels = boxes_xyxy[index], classes[index]
        groups = torch.zeros_like(scores[index]) if agnostic else labels.to(scores.dtype)
        kept = _greedy(boxes, groups, iou_thres, max_det)
        detections.append(Detections(boxes[kept], scores[index][kept], labels[kept]))
    return detections


def _greedy(boxes_xyxy: Tensor, groups: Tensor, iou_thres: float, max_det: int) -> Tensor:
    """Indices of the boxes that greedy suppression keeps; boxes are sorted, best first.

    Works block by block, since what is kept of the best boxes does not depend on the rest.
    """
    kept = torch.zeros(0, dtype=torch.int64, device=boxes_xyxy.device)
    size = BLOCK.get(boxes_xyxy.device.type, LARGE_BLOCK)
    for start in range(0, len(boxes_xyxy), size):
        end = min(start + size, len(boxes_xyxy))
        block = torch.arange(start, end, device=boxes_xyxy.device)
        if len(kept):
            hit = _suppresses(boxes_xyxy, groups, kept, block, iou_thres).any(0)
            block = block[~hit]
        alive = _alive(_suppresses(boxes_xyxy, groups, block, block, iou_thres).triu_(1))
        kept = torch.cat((kept, block[alive]))
        if len(kept) >= max_det:
            break
    return kept[:max_det]


def _suppresses(
    boxes_xyxy: Tensor, groups: Tensor, first: Tensor, second: Tensor, iou_thres: float
) -> Tensor:
    """bool [len(first), len(second)]: same group, and IoU above the threshold."""
    overlap = box_iou_xyxy(boxes_xyxy[first], boxes_xyxy[second]) > iou_thres
    return overlap.logical_and_(groups[first][:, None] == groups[second])


def _alive(suppresses: Tensor) -> Tensor:
    """What greedy suppression keeps, from a strictly upper triangular bool matrix [n, n].

    Starts with all alive and lets the alive suppress until nothing changes. Row i is right after
    i rounds at the latest, and the only fixed point is the greedy result (arXiv:2005.03572).
    """
    matrix = suppresses.float()
    alive = torch.ones(len(matrix), device=matrix.device)
    while True:
        after = (alive @ matrix == 0).float()
        if torch.equal(after, alive):
            return alive.bool()
        alive = after
