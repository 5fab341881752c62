"""Cost curves: the cost of pruning each layer at several sparsities, measured on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sparsity.pruning import least_squares
from sparsity.pruning.layers import convolutions
from sparsity.pruning.lockstep import run_in_lockstep
from sparsity.pruning.moments import gather_moments
from sparsity.pruning.obs import ObsSettings, grouped, normalised
from sparsity.pruning.patterns import select

GRID = (0.2, 0.4, 0.55, 0.7, 0.8, 0.9, 0.96)
"""The sparsities at which a layer's cost is measured."""
SUPPORT_STEPS, REFIT_STEPS = 24, 15
CURVE_PATCHES = 30_000
TINIEST = 1e-30


@dataclass(frozen=True)
class Curve:
    """The cost of a layer at each sparsity of GRID, and its number of weights."""

    weights: int
    costs: tuple[float, ...]

    def marginals(self) -> np.ndarray:
        """Return the cost of pruning one more weight: [weights], falling, from the last pruned to the first.

        The logarithm of the cost is interpolated. From 0 to the first sparsity of GRID, the cost grows with
        the square of the sparsity.
        """
        fraction = np.arange(self.weights + 1) / self.weights
        logs = np.log(np.maximum(self.costs, TINIEST))
        rise = (logs[-1] - logs[-2]) / (GRID[-1] - GRID[-2])
        grid = np.append(GRID, 1.0)
        cost = np.exp(np.interp(fraction, grid, np.append(logs, logs[-1] + rise * (1 - GRID[-1]))))
        first = fraction < GRID[0]
        cost[first] = self.costs[0] * (fraction[first] / GRID[0]) ** 2
        steps = np.maximum.accumulate(np.diff(cost))
        return steps[::-1].astype(np.float64)


@torch.no_grad()
def measure_curves(
    network: nn.Module,
    batches: Sequence[Tensor],
    channel_costs: Mapping[str, Tensor],
    *,
    settings: ObsSettings | None = None,
    tick: Callable[[str], None] = lambda _name: None,
) -> dict[str, Curve]:
    """Prune each Conv2d alone, as obs does, at every sparsity of GRID. Return the cost curves by name.

    The network is not changed. channel_costs: the cost of errors in the channels, [groups, rows, rows] by the
    name of the Conv2d (see channel_costs.channel_costs). The cost of a layer is that of the covariance of its
    errors.
    """
    settings = settings or ObsSettings()
    names = {conv: name for name, conv in convolutions(network)}
    generator = torch.Generator().manual_seed(settings.seed)
    curves: dict[str, Curve] = {}

    def visit(conv: nn.Conv2d, inputs: list[Tensor]) -> Iterator[Tensor]:
        curves[names[conv]] = _curve(conv, inputs, channel_costs[names[conv]], settings, generator)
        tick(names[conv])
        while inputs:
            yield conv._conv_forward(inputs.pop(0), conv.weight, conv.bias)

    run_in_lockstep(network, batches, list(names), visit)
    return {name: curves[name] for name in names.values()}


def _curve(
    conv: nn.Conv2d,
    inputs: Sequence[Tensor],
    channel_cost: Tensor,
    settings: ObsSettings,
    generator: torch.Generator,
) -> Curve:
    moments = gather_moments(conv, inputs, CURVE_PATCHES, generator, paired=False)
    dense = grouped(conv.weight, conv.groups)
    h, unit = normalised(moments.xx, settings.damping)
    c, row_unit = normalised(channel_cost, settings.channel_damping)
    target = dense * unit[:, None] * row_unit[:, :, None]
    costs = []
    for sparsity in GRID:
        count = target.numel() - round(sparsity * target.numel())
        support = least_squares.find_support(
            target, h, lambda scores, count=count: select(scores, count), c, steps=SUPPORT_STEPS
        )
        lost = least_squares.refit(target, h, support, target, c, steps=REFIT_STEPS) - target
        costs.append(float(((c @ lost @ h) * lost).sum()))
    return Curve(target.numel(), tuple(costs))
