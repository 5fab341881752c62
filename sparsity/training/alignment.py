"""Which cells of an anchor-free head are to find which target: task-aligned assignment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.training.ciou import complete_iou_cxcywh

MOST_CELLS = 10
"""As many cells at most are to find a target."""
SCORE_POWER, IOU_POWER = 0.5, 6.0
"""How much a cell's score and its box's overlap count in its alignment with a target."""


@dataclass(frozen=True)
class Alignment:
    """Cells, the target each is to find, and the score it is to give; a target has none, one or many cells.

    image, cell, target: int64 [m]. scores: float [m], 0 to 1: for each target its best aligned cell's is the
    best overlap that any of its cells has.
    """

    image: Tensor
    cell: Tensor
    target: Tensor
    scores: Tensor


@torch.no_grad()
def align(
    boxes_cxcywh: Tensor,
    scores: Tensor,
    centres_xy: Tensor,
    image: Tensor,
    classes: Tensor,
    targets_cxcywh: Tensor,
) -> Alignment:
    """Match targets with the cells whose predictions already suit them best.

    boxes_cxcywh: float [batch, cells, 4], scores: [batch, cells, nc], what the network gives, in pixels and 0
    to 1. centres_xy: [cells, 2], the cells' centres in pixels. image, classes: int64 [n], targets_cxcywh:
    float [n, 4], of the targets, in pixels.

    A cell is aligned with a target by score^0.5 x overlap^6. Of the cells whose centre lies in it each target
    gets the MOST_CELLS best aligned; one that several get goes to that which its box overlaps most.
    Source: TOOD, arXiv:2108.07755. The overlap is the complete IoU, 0 where that is less.
    """
    target, cell = _inside(centres_xy, targets_cxcywh).nonzero().unbind(1)
    overlap = complete_iou_cxcywh(boxes_cxcywh[image[target], cell], targets_cxcywh[target]).clamp(min=0)
    aligned = scores[image[target], cell, classes[target]] ** SCORE_POWER * overlap**IOU_POWER
    kept = _best(aligned, target, cell, len(targets_cxcywh), len(centres_xy))
    target, cell, overlap, aligned = (x[kept] for x in (target, cell, overlap, aligned))
    kept = _uncontested(image[target] * len(centres_xy) + cell, target, overlap, scores.shape[:2].numel())
    target, cell, overlap, aligned = (x[kept] for x in (target, cell, overlap, aligned))
    most = aligned.new_zeros(len(targets_cxcywh))
    best = most.scatter_reduce(0, target, aligned, "amax")
    widest = most.scatter_reduce(0, target, overlap, "amax")
    return Alignment(image[target], cell, target, aligned / best[target] * widest[target])


def _inside(centres_xy: Tensor, targets_cxcywh: Tensor) -> Tensor:
    """bool [n, cells]: which centres lie in which target."""
    found = torch.ones(len(targets_cxcywh), len(centres_xy), dtype=torch.bool, device=centres_xy.device)
    for axis in (0, 1):
        away = (centres_xy[None, :, axis] - targets_cxcywh[:, None, axis]).abs()
        found &= away < targets_cxcywh[:, None, axis + 2] / 2
    return found


def _best(aligned: Tensor, target: Tensor, cell: Tensor, targets: int, cells: int) -> Tensor:
    """bool [m]: which pairs are among the MOST_CELLS best aligned of their target, at all aligned."""
    table = aligned.new_zeros(targets, cells)
    table[target, cell] = aligned
    chosen = torch.zeros_like(table, dtype=torch.bool)
    chosen.scatter_(1, table.topk(min(MOST_CELLS, cells), 1).indices, True)
    return chosen[target, cell] & (aligned > 0)


def _uncontested(place: Tensor, target: Tensor, overlap: Tensor, places: int) -> Tensor:
    """bool [m]: which pairs have their place to themselves; the largest overlap gets it, then the first."""
    most = overlap.new_zeros(places).scatter_reduce(0, place, overlap, "amax")
    wins = overlap == most[place]
    first = torch.full((places,), len(target), dtype=target.dtype, device=target.device)
    order = torch.arange(len(target), device=target.device)
    first = first.scatter_reduce(0, place[wins], order[wins], "amin")
    return order == first[place]
