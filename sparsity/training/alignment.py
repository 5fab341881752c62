"""Task-aligned assignment: which cells of an anchor-free head learn which target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.training.ciou import complete_iou_cxcywh

MOST_CELLS = 10
"""The maximum number of cells that learn one target, where the assigner does not say otherwise."""
SCORE_POWER, IOU_POWER = 0.5, 6.0
"""Exponents of a cell's score and of its box's overlap in its alignment with a target."""


@dataclass(frozen=True)
class Alignment:
    """Cells, the target that each learns, and the score that it should give.

    A target has none, one or many cells. image, cell, target: int64 [m]. scores: float [m], 0 to 1. Within a
    target, scores are proportional to the alignment. The best aligned cell gets the largest overlap of any of
    the target's cells as its score.
    """

    image: Tensor
    cell: Tensor
    target: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Assigner:
    """How many cells learn a target.

    most: the number of best aligned cells that are assigned to a target. final: of these, after each cell has
    gone to one target, so many keep it; 0 for all. smallest: a target's side in pixels below this counts as
    this when the cells that lie in the target are found.
    """

    most: int = MOST_CELLS
    final: int = 0
    smallest: float = 0.0


@torch.no_grad()
def align(
    boxes_cxcywh: Tensor,
    scores: Tensor,
    centres_xy: Tensor,
    image: Tensor,
    classes: Tensor,
    targets_cxcywh: Tensor,
    assigner: Assigner | None = None,
) -> Alignment:
    """Assign targets to the cells whose predictions already fit them best.

    boxes_cxcywh: float [batch, cells, 4], in pixels, and scores: [batch, cells, nc], 0 to 1: the network's
    output.
    centres_xy: [cells, 2], the cells' centres in pixels.
    image, classes: int64 [n], and targets_cxcywh: float [n, 4], in pixels: the targets.

    The alignment of a cell with a target is score^0.5 x overlap^6. The overlap is the complete IoU, or 0
    where that is negative. Each target gets the best aligned cells among those whose centre lies in it. If
    several targets get the same cell, the cell goes to the target that its box overlaps most. assigner: how
    many cells a target gets; None for MOST_CELLS.
    Source: TOOD, arXiv:2108.07755.
    """
    assigner = assigner or Assigner()
    target, cell = _inside(centres_xy, targets_cxcywh, assigner.smallest).nonzero().unbind(1)
    overlap = complete_iou_cxcywh(boxes_cxcywh[image[target], cell], targets_cxcywh[target]).clamp(min=0)
    aligned = scores[image[target], cell, classes[target]] ** SCORE_POWER * overlap**IOU_POWER
    sizes = len(targets_cxcywh), len(centres_xy)
    kept = _best(aligned, target, cell, *sizes, assigner.most)
    target, cell, overlap, aligned = (x[kept] for x in (target, cell, overlap, aligned))
    kept = _uncontested(image[target] * len(centres_xy) + cell, target, overlap, scores.shape[:2].numel())
    target, cell, overlap, aligned = (x[kept] for x in (target, cell, overlap, aligned))
    if assigner.final:
        kept = _best(aligned, target, cell, *sizes, assigner.final)
        target, cell, overlap, aligned = (x[kept] for x in (target, cell, overlap, aligned))
    most = aligned.new_zeros(len(targets_cxcywh))
    best = most.scatter_reduce(0, target, aligned, "amax")
    widest = most.scatter_reduce(0, target, overlap, "amax")
    return Alignment(image[target], cell, target, aligned / best[target] * widest[target])


def _inside(centres_xy: Tensor, targets_cxcywh: Tensor, smallest: float) -> Tensor:
    """Return which centres lie in which target, bool [n, cells]. smallest: see Assigner."""
    found = torch.ones(len(targets_cxcywh), len(centres_xy), dtype=torch.bool, device=centres_xy.device)
    for axis in (0, 1):
        away = (centres_xy[None, :, axis] - targets_cxcywh[:, None, axis]).abs()
        found &= away < targets_cxcywh[:, None, axis + 2].clamp(min=smallest) / 2
    return found


def _best(aligned: Tensor, target: Tensor, cell: Tensor, targets: int, cells: int, most: int) -> Tensor:
    """Return which pairs are aligned and among the so many best of their target, bool [m]."""
    table = aligned.new_zeros(targets, cells)
    table[target, cell] = aligned
    chosen = torch.zeros_like(table, dtype=torch.bool)
    chosen.scatter_(1, table.topk(min(most, cells), 1).indices, True)
    return chosen[target, cell] & (aligned > 0)


def _uncontested(place: Tensor, target: Tensor, overlap: Tensor, places: int) -> Tensor:
    """Return which pairs keep their cell, bool [m].

    A place is a cell of an image. It goes to the pair with the largest overlap, at a tie to the first.
    """
    most = overlap.new_zeros(places).scatter_reduce(0, place, overlap, "amax")
    wins = overlap == most[place]
    first = torch.full((places,), len(target), dtype=target.dtype, device=target.device)
    order = torch.arange(len(target), device=target.device)
    first = first.scatter_reduce(0, place[wins], order[wins], "amin")
    return order == first[place]
