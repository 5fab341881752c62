"""Exact greedy non-maximum suppression (NMS), per class, for a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.base.boxes import box_iou_xyxy, paired_iou_xyxy
from sparsity.yolo.head import orders_by_score

MOST_CANDIDATES = 30_000
BLOCK = {"cpu": 256}
"""Boxes that are compared at once: few on a CPU, where arithmetic is slow; many where kernel launches are."""
LARGE_BLOCK = 2048
BEST = 3
"""The boxes for each detection among which all detections are looked for first."""
FEW_PAIRS = 64
"""Pairs of one class for each box, up to which comparing all of them beats comparing block by block."""
MOST_PAIRS = 2**19
"""Pairs that are compared at once: they take 40 MB."""


@dataclass(frozen=True)
class KeptBoxes:
    """The boxes of one image that are its detections, best score first.

    boxes_xyxy: float32 [n, 4] in pixels. scores: float32 [n]. classes: int64 [n].
    """

    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def cpu(self) -> KeptBoxes:
        """Return a copy in main memory."""
        return KeptBoxes(self.boxes_xyxy.cpu(), self.scores.cpu(), self.classes.cpu())


def best_detections(
    image: Tensor, boxes_xyxy: Tensor, scores: Tensor, classes: Tensor, *, images: int, max_det: int
) -> list[KeptBoxes]:
    """Keep the max_det best boxes of each image, without suppression.

    The arguments are those of non_maximum_suppression.
    """
    orders = orders_by_score(image, scores, images)
    return [KeptBoxes(boxes_xyxy[i], scores[i], classes[i]) for i in (one[:max_det] for one in orders)]


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
) -> list[KeptBoxes]:
    """Keep the best boxes of each image, and remove boxes that overlap a better one of their class.

    image, boxes_xyxy, scores, classes: [n], [n, 4], [n], [n], the candidates of all images.
    image: the index of each candidate's image. images: the number of images.
    A box is removed if its IoU with a kept box of the same class (of any class if agnostic) is above
    iou_thres.
    Only the 30,000 best candidates of each image are considered, and the max_det best are kept.
    The result is exactly that of the textbook loop over boxes by falling score. There is no time limit.
    """
    detections = []
    for index in orders_by_score(image, scores, images):
        index = index[:MOST_CANDIDATES]
        boxes, labels = boxes_xyxy[index], classes[index]
        groups = torch.zeros_like(labels) if agnostic else labels
        kept = _kept(boxes, groups, iou_thres, max_det)
        detections.append(KeptBoxes(boxes[kept], scores[index][kept], labels[kept]))
    return detections


def _kept(boxes_xyxy: Tensor, groups: Tensor, iou_thres: float, max_det: int) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps. The boxes are sorted, best first."""
    if boxes_xyxy.device.type != "cpu":
        return _greedy(boxes_xyxy, groups, iou_thres, max_det)
    for size in sorted({min(BEST * max_det, len(groups)), len(groups)}):
        best, own = boxes_xyxy[:size], groups[:size]
        counts = torch.bincount(own)
        pairs = int((counts * (counts - 1)).sum()) // 2
        if pairs > min(FEW_PAIRS * len(own), MOST_PAIRS):
            return _greedy(boxes_xyxy, groups, iou_thres, max_det)
        kept = _greedy_by_group(best, own, counts, iou_thres)[:max_det]
        if len(kept) == max_det:
            break
    return kept


def _greedy_by_group(boxes_xyxy: Tensor, groups: Tensor, counts: Tensor, iou_thres: float) -> Tensor:
    """Return what greedy suppression keeps, from the pairs of boxes of one group alone.

    counts: the number of boxes in each group.
    """
    order = torch.argsort(groups, stable=True)  # within a group, best first
    place = torch.arange(len(order))
    worse = counts.cumsum(0)[groups[order]] - place - 1  # how many of the group are worse than each
    first = place.repeat_interleave(worse)
    second = torch.arange(1, len(first) + 1) + (place - worse.cumsum(0) + worse)[first]
    near = (paired_iou_xyxy(boxes_xyxy[order], first, second) > iou_thres).nonzero().squeeze(1)
    better, suppressed = order[first[near]], order[second[near]]
    alive = torch.ones(len(order), dtype=torch.bool)
    while True:  # as in _alive
        after = torch.ones_like(alive)
        after[suppressed[alive[better]]] = False
        if torch.equal(after, alive):
            return alive.nonzero().squeeze(1)
        alive = after


def _greedy(boxes_xyxy: Tensor, groups: Tensor, iou_thres: float, max_det: int) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps. The boxes are sorted, best first.

    It works block by block: whether a box is kept does not depend on worse boxes.
    """
    groups = groups.to(boxes_xyxy.dtype)
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
    """Return bool [len(first), len(second)]: whether the groups are equal and the IoU is above iou_thres."""
    overlap = box_iou_xyxy(boxes_xyxy[first], boxes_xyxy[second]) > iou_thres
    return overlap.logical_and_(groups[first][:, None] == groups[second])


def _alive(suppresses: Tensor) -> Tensor:
    """Return bool [n]: the boxes that greedy suppression keeps.

    suppresses: bool [n, n], strictly upper triangular: whether box i suppresses box j.
    At first all boxes are alive. In each round the alive boxes suppress others, until nothing changes. Row i
    is correct after i rounds at the latest, and the only fixed point is the greedy result (arXiv:2005.03572).
    """
    matrix = suppresses.float()
    alive = torch.ones(len(matrix), device=matrix.device)
    while True:
        after = (alive @ matrix == 0).float()
        if torch.equal(after, alive):
            return alive.bool()
        alive = after
