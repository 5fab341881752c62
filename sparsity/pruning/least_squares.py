"""The best weights that have so many zeros: sparse least squares for all outputs of a layer together.

Minimises tr((w - target) h (w - target)^T) over weights w with zeros where a mask of a given count, or
pattern, has them. Weights are [groups, rows, k], h is [groups, k, k], positive definite.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Select = Callable[[Tensor], Tensor]
"""Scores [groups, rows, k] -> which of them stay, bool, always as many."""
FIRST_PENALTY = 0.1
STEPS, STEPS_BETWEEN = 120, 3
REFIT_STEPS = 60
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""Share of the kept weights that changed since the penalty grew -> by what it grows now."""


def find_support(target: Tensor, h: Tensor, select: Select, steps: int = STEPS) -> Tensor:
    """Which weights to keep, bool like target, by the alternating direction method of multipliers.

    Optimal Brain Surgeon's problem (Hassibi and Stork 1993) for many weights at once: where SparseGPT
    (arXiv:2301.00774) and OBC (arXiv:2208.11580) remove weights one after another for good, this may take
    a weight back. The penalty grows until the choice settles. h: with a diagonal of ones.
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
    """The best weights with zeros outside support, by conjugate gradients, each row for itself.

    start: weights to begin from; no step makes them worse. Exact after as many steps as a row keeps weights.
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
    """How far outputs of weights on x are from those of dense on y, squared, summed over outputs.

    xx, yx: see Moments. Less a term that does not depend on weights, so that it may be below 0.
    """
    return float(((weights @ xx - 2 * dense @ yx) * weights).sum())
