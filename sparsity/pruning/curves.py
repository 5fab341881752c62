"""Cost curves: the cost of pruning each layer at several sparsities, measured on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity.pruning import least_squares
from sparsity.pruning.layers import convolutions
from sparsity.pruning.lockstep import run_in_lockstep
from sparsity.pruning.moments import Moments, gather_moments
from sparsity.pruning.obs import ObsSettings, grouped, normalised, selector
from sparsity.pruning.patterns import AnyPattern, block_size, project

GRID = (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.8, 0.9, 0.96)
"""The sparsities at which a layer's cost is measured."""
SUPPORT_STEPS, REFIT_STEPS = 24, 15
CURVE_PATCHES = 30_000
TINIEST = 1e-30
FAR = 30.0
"""A distance in logarithms, from the first sparsity of GRID to one of which the cost is 0."""


@dataclass(frozen=True)
class Curve:
    """The cost of a layer at each sparsity of GRID, and its number of weights."""

    weights: int
    costs: tuple[float, ...]

    def marginals(self) -> np.ndarray:
        """Return the cost of pruning one more weight: [weights], falling, from the last pruned to the first.

        Between the sparsities of GRID, the cost grows with a power of the sparsity. Up to the first one, it
        grows with its square; from the last one on, with the same power as just before it.
        """
        fraction = np.arange(1, self.weights + 1) / self.weights
        places, logs = np.log(GRID), np.log(np.maximum(self.costs, TINIEST))
        power = (logs[-1] - logs[-2]) / (places[-1] - places[-2])
        places = np.concatenate([[places[0] - FAR], places, [0.0]])
        logs = np.concatenate([[logs[0] - 2 * FAR], logs, [logs[-1] - power * places[-2]]])
        cost = np.append(0.0, np.exp(np.interp(np.log(fraction), places, logs)))
        steps = np.maximum.accumulate(np.diff(cost))
        return steps[::-1].astype(np.float64)


def curve_identity() -> dict[str, Any]:
    """Return the settings that affect the curves, as JSON values (see Pruner.identity)."""
    return {"curve_grid": list(GRID)}


@torch.no_grad()
def measure_curves(
    network: nn.Module,
    batches: Sequence[Tensor],
    channel_costs: Mapping[str, Tensor],
    *,
    pattern: AnyPattern | None = None,
    settings: ObsSettings | None = None,
    tick: Callable[[str], None] = lambda _name: None,
) -> dict[str, Curve]:
    """Prune each Conv2d alone, as obs does, at every sparsity of GRID. Return the cost curves by name.

    The network is not changed. channel_costs: the cost of errors in the channels, [groups, rows, rows] by the
    name of the Conv2d (see channel_costs.channel_costs). The cost of a layer is that of the covariance of its
    errors. pattern: the layers that it fits are pruned by its blocks; N:M is not applied.
    """
    settings = settings or ObsSettings()
    names = {conv: name for name, conv in convolutions(network)}
    generator = torch.Generator().manual_seed(settings.seed)
    curves: dict[str, Curve] = {}

    def visit(conv: nn.Conv2d, inputs: list[Tensor]) -> Iterator[Tensor]:
        name = names[conv]
        moments = gather_moments(conv, inputs, CURVE_PATCHES, generator, paired=False)
        curves[name] = _curve(conv, moments, channel_costs[name], pattern, settings)
        tick(name)
        while inputs:
            yield conv._conv_forward(inputs.pop(0), conv.weight, conv.bias)

    run_in_lockstep(network, batches, list(names), visit)
    return {name: curves[name] for name in names.values()}


def _curve(
    conv: nn.Conv2d,
    moments: Moments,
    channel_cost: Tensor,
    pattern: AnyPattern | None,
    settings: ObsSettings,
) -> Curve:
    dense = grouped(conv.weight, conv.groups)
    h, unit = normalised(moments.xx, settings.damping)
    c, row_unit = normalised(channel_cost, settings.channel_damping)
    target, basis = dense * unit[:, None] * row_unit[:, :, None], least_squares.diagonalise(h, c)
    size = block_size(pattern, conv.weight.shape)
    units, costs = target.numel() // size, []
    for sparsity in GRID:
        count = (units - round(sparsity * units)) * size
        support = least_squares.find_support(
            target,
            h,
            selector(conv, count, pattern if size > 1 else None, project),
            c,
            basis=basis,
            steps=SUPPORT_STEPS,
        )
        lost = least_squares.refit(target, h, support, target, c, steps=REFIT_STEPS) - target
        costs.append(float(((c @ lost @ h) * lost).sum()))
    return Curve(target.numel(), tuple(costs))
