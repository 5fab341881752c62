"""Sparse least squares: the best weights with a given number of zeros, for all outputs of a layer together.

It minimises tr((w - target) h (w - target)^T) over weights w that are zero outside a mask. The mask has a
given count, and a pattern if there is one. Weights are [groups, rows, k]; h is [groups, k, k], positive
definite.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Select = Callable[[Tensor], Tensor]
"""Scores [groups, rows, k] -> which are kept: bool, always with the same number of True."""
FIRST_PENALTY = 0.1
STEPS, STEPS_BETWEEN = 120, 3
REFIT_STEPS = 60
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""(share, factor): the penalty grows by the factor if at least this share of the kept weights changed."""


def find_support(target: Tensor, h: Tensor, select: Select, steps: int = STEPS) -> Tensor:
    """Return which weights to keep: bool, shaped like target. h: with a diagonal of ones.

    The alternating direction method of multipliers solves Optimal Brain Surgeon's problem (Hassibi and Stork
    1993) for many weights at once. SparseGPT (arXiv:2301.00774) and OBC (arXiv:2208.11580) remove weights one
    after another and never take one back; this method can. The penalty grows until the choice is stable.
    Source: Meng et al., "ALPS", arXiv:2406.07831.
    """
    values, vectors = torch.linalg.eigh(h)
    fitted, penalty = target @ h, FIRST_PENALTY
    chosen = last = select(target.abs())
    sparse, dual = target * chosen, torch.zeros_like(target)
    for step in range(1, steps + 1):
        right = (fitted + penalty * sparse - dual) @ vectors
        full = (right / (values.clamp(min=0) + penalty)[:, None]) @ vectors.mT
        moved = full + dual / penalty
        chosen = select(moved.abs())
        sparse = moved * chosen
        dual = dual + penalty * (full - sparse)
        if step % STEPS_BETWEEN == 0:
            changed = int((chosen & ~last).sum())
            if not changed:
                break
            share = changed / max(1, int(chosen.sum()))
            penalty *= next(by for least, by in GROWTH if share >= least)
            last = chosen
    return chosen


def refit(target: Tensor, h: Tensor, support: Tensor, start: Tensor, steps: int = REFIT_STEPS) -> Tensor:
    """Return the best weights that are zero outside support, by conjugate gradients, separately for each row.

    start: the initial weights; no step makes them worse. The result is exact when the number of steps reaches
    the number of weights that a row keeps.
    """
    weights = start * support
    residual = ((target - weights) @ h) * support
    direction, size = residual, residual.square().sum(-1, keepdim=True)
    done = size * torch.finfo(size.dtype).eps ** 2
    for _ in range(steps):
        ahead = (direction @ h) * support
        curvature = (direction * ahead).sum(-1, keepdim=True)
        active = (size > done) & (curvature > 0)
        length = torch.where(active, size / curvature, 0.0)
        weights = weights + length * direction
        residual = residual - length * ahead
        size, before = residual.square().sum(-1, keepdim=True), size
        direction = residual + torch.where(active, size / before, 0.0) * direction
    return weights


def error(weights: Tensor, xx: Tensor, yx: Tensor, dense: Tensor) -> float:
    """Return the squared difference of the outputs of weights on x and of dense on y, summed over outputs.

    xx, yx: see Moments. A term that does not depend on weights is left out, so the result can be negative.
    """
    return float(((weights @ xx - 2 * dense @ yx) * weights).sum())
