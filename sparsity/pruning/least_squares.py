"""Sparse least squares: the best weights with a given number of zeros, for all outputs of a layer together.

It minimises tr(c (w - target) h (w - target)^T) over weights w that are zero outside a mask. The mask has a
given count, and a pattern if there is one. Weights are [groups, rows, k]; h is [groups, k, k], positive
definite. c is [groups, rows, rows], positive definite, or None for the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Select = Callable[[Tensor], Tensor]
"""Magnitudes [groups, rows, k] -> which are kept: bool, always with the same number of True."""
Turn = Callable[[Tensor], Tensor]
FIRST_PENALTY = 0.1
STEPS, STEPS_BETWEEN = 120, 3
REFIT_STEPS = 60
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""(share, factor): the penalty grows by the factor if at least this share of the kept weights changed."""


@dataclass(frozen=True)
class Basis:
    """The eigenvalues of w -> c w h, [groups, rows or 1, k], and the turns to and from its eigenvectors."""

    values: Tensor
    turn: Turn
    turn_back: Turn


def diagonalise(h: Tensor, c: Tensor | None = None) -> Basis:
    """Return the basis of h and c, which several searches can share."""
    values, right = torch.linalg.eigh(h)
    values = values.clamp(min=0)[:, None]
    if c is None:
        return Basis(values, lambda w: w @ right, lambda w: w @ right.mT)
    more, left = torch.linalg.eigh(c)
    values = more.clamp(min=0)[..., None] * values
    return Basis(values, lambda w: left.mT @ w @ right, lambda w: left @ w @ right.mT)


def find_support(
    target: Tensor,
    h: Tensor,
    select: Select,
    c: Tensor | None = None,
    *,
    basis: Basis | None = None,
    steps: int = STEPS,
) -> Tensor:
    """Return which weights to keep: bool, shaped like target. h and c: with a diagonal of ones.

    select: the Euclidean projection onto the allowed weights, by magnitudes (see patterns.project).
    basis: of h and c, if it is known.

    The alternating direction method of multipliers solves Optimal Brain Surgeon's problem (Hassibi and Stork
    1993) for many weights at once. SparseGPT (arXiv:2301.00774) and OBC (arXiv:2208.11580) remove weights one
    after another and never take one back; this method can. The penalty grows until the choice is stable.
    Source: Meng et al., "ALPS", arXiv:2406.07831.
    """
    basis = basis or diagonalise(h, c)
    fitted, penalty = _weighted(target, h, c), FIRST_PENALTY
    chosen = last = select(target.abs())
    sparse, dual = target * chosen, torch.zeros_like(target)
    for step in range(1, steps + 1):
        right = fitted + penalty * sparse - dual
        full = basis.turn_back(basis.turn(right) / (basis.values + penalty))
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


def _weighted(weights: Tensor, h: Tensor, c: Tensor | None) -> Tensor:
    return weights @ h if c is None else c @ weights @ h


def refit(
    target: Tensor,
    h: Tensor,
    support: Tensor,
    start: Tensor,
    c: Tensor | None = None,
    *,
    steps: int = REFIT_STEPS,
) -> Tensor:
    """Return the best weights that are zero outside support, by conjugate gradients.

    start: the initial weights; no step makes them worse. Without c, each row is solved separately, and the
    result is exact when the number of steps reaches the number of weights that a row keeps.
    """
    together = (-1,) if c is None else (-2, -1)
    weights = start * support
    residual = _weighted(target - weights, h, c) * support
    direction, size = residual, residual.square().sum(together, keepdim=True)
    done = size * torch.finfo(size.dtype).eps ** 2
    for _ in range(steps):
        ahead = _weighted(direction, h, c) * support
        curvature = (direction * ahead).sum(together, keepdim=True)
        active = (size > done) & (curvature > 0)
        length = torch.where(active, size / curvature, 0.0)
        weights = weights + length * direction
        residual = residual - length * ahead
        size, before = residual.square().sum(together, keepdim=True), size
        direction = residual + torch.where(active, size / before, 0.0) * direction
    return weights


def error(weights: Tensor, xx: Tensor, yx: Tensor, dense: Tensor, c: Tensor | None = None) -> float:
    """Return the squared difference of the outputs of weights on x and of dense on y, summed over outputs.

    xx, yx: see Moments. c weighs products of the outputs' differences. A term that does not depend on weights
    is left out, so the result can be negative.
    """
    slope = weights @ xx - 2 * dense @ yx
    return float(((slope if c is None else c @ slope) * weights).sum())
