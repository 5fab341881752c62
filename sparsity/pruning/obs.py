"""Optimal Brain Surgeon for convolutions: remove weights, and update the others to compensate.

The layers are pruned one after another, in execution order. Each layer is fitted on its inputs in the network
as pruned so far. Its target is its output in the dense network, so errors do not accumulate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.pruning import least_squares
from sparsity.pruning.apply import apply_masks
from sparsity.pruning.criterion import Criterion, PruningContext
from sparsity.pruning.layers import convolutions
from sparsity.pruning.lockstep import run_in_lockstep
from sparsity.pruning.moments import Moments, gather_moments
from sparsity.pruning.patterns import AnyPattern, project, select

SMALLEST_VARIANCE = 1e-12
MOST_GROWTH = 100.0
"""How much the largest weight may grow; real solutions stay below 6. Behind a layer without weights, inputs
are constant, their moments are rounding errors, and a solution of them can be of any size."""


@dataclass(frozen=True)
class ObsSettings:
    """The settings of the update.

    damping: added to the variances of the inputs, as a share of their mean (0.01, as in SparseGPT).
    channel_damping: added to the cost of an error in each channel, as a share of the mean of the layer.
    pull: how strongly the target is pulled to the dense weights, as a share of the mean variance. It limits
    the compensation for errors of earlier layers. patches: the largest number of patches for the moments of a
    layer. seed: of the choice of patches.
    """

    damping: float = 0.01
    channel_damping: float = 0.1
    pull: float = 0.3
    patches: int = 100_000
    seed: int = 0


class Obs(Criterion):
    """Optimal Brain Surgeon on calibration images: least squares, layer by layer (see prune_obs)."""

    name = "obs"
    title = "least squares on calibration images"
    own_scope = "measured"
    needs_images = True
    needs_channel_costs = True
    updates_weights = True

    def prune(self, network: nn.Module, counts: Mapping[str, int], context: PruningContext) -> None:
        prune_obs(
            network,
            counts,
            context.images,
            channel_costs=context.channel_costs,
            pattern=context.pattern,
            settings=ObsSettings(seed=context.seed),
            tick=context.tick,
        )
        apply_masks(network, {name: conv.weight != 0 for name, conv in convolutions(network)})

    def identity(self) -> dict[str, Any]:
        return {f"obs_{name}": value for name, value in asdict(ObsSettings()).items() if name != "seed"}


@torch.no_grad()
def prune_obs(
    network: nn.Module,
    counts: Mapping[str, int],
    batches: Sequence[Tensor],
    *,
    channel_costs: Mapping[str, Tensor] | None = None,
    pattern: AnyPattern | None = None,
    settings: ObsSettings | None = None,
    tick: Callable[[str], None] = lambda _name: None,
) -> nn.Module:
    """Prune every Conv2d of a network in evaluation mode, permanently and in place. Return the network.

    counts: how many weights each Conv2d keeps, by name. batches: calibration images [n, 3, height, width], as
    forward takes them, on the network's device. channel_costs: the cost of errors in the channels of each
    Conv2d, by name (see channel_costs.channel_costs); None: an error costs the same in every channel of a
    layer. tick: called with the name of each finished layer.
    Biases compensate for the change in the mean outputs.
    The feature maps of all batches are in memory at the same time, dense and pruned. In addition, a layer
    takes about ten times k^2 numbers, where k is its inputs x kernel area.
    Raises InputError where there is no batch.

    Source: Hassibi and Stork 1993; Frantar and Alistarh, arXiv:2208.11580, arXiv:2301.00774;
    the target on the dense network's inputs: Li et al., "GPTAQ", arXiv:2504.02692.
    """
    if not batches:
        raise InputError("obs needs calibration images, but there are none; give some as `calibration`")
    settings = settings or ObsSettings()
    names = {conv: name for name, conv in convolutions(network)}
    generator = torch.Generator().manual_seed(settings.seed)

    def visit(conv: nn.Conv2d, pairs: list[Tensor]) -> Iterator[Tensor]:
        dense = (
            nn.Parameter(conv.weight.clone(), False),
            conv.bias if conv.bias is None else conv.bias.clone(),
        )
        moments = gather_moments(conv, pairs, settings.patches, generator)
        cost = channel_costs[names[conv]] if channel_costs else None
        prune_layer(conv, moments, counts[names[conv]], pattern, settings, cost)
        tick(names[conv])
        while pairs:
            before, now = pairs.pop(0).chunk(2)
            outputs = conv._conv_forward(before, *dense), conv._conv_forward(now, conv.weight, conv.bias)
            yield torch.cat(outputs)

    doubled = [torch.cat((batch, batch)) for batch in batches]
    run_in_lockstep(network, doubled, list(names), visit)
    return network


@torch.no_grad()
def prune_layer(
    conv: nn.Conv2d,
    moments: Moments,
    count: int,
    pattern: AnyPattern | None,
    settings: ObsSettings,
    channel_cost: Tensor | None = None,
) -> None:
    """Prune a Conv2d to count weights, update these weights, and correct its bias.

    channel_cost: [groups, rows, rows], see channel_costs. The cost of the errors of the layer's outputs is
    never larger than that of magnitude pruning with the same bias correction.
    """
    dense = grouped(conv.weight, conv.groups)
    cost = None if channel_cost is None else channel_cost + ridge(channel_cost, settings.channel_damping)
    candidates = [dense * selector(conv, count, pattern)(dense.abs())]
    solved = _solve(dense, moments, selector(conv, count, pattern, project), settings, cost)
    if solved.abs().max() <= MOST_GROWTH * dense.abs().max():  # False for NaN
        candidates.append(solved)
    best = min(candidates, key=lambda w: least_squares.error(w, moments.xx, moments.yx, dense, cost))
    conv.weight.copy_(best.flatten(0, 1).view_as(conv.weight))
    if conv.bias is not None:
        lost = (dense @ moments.y[:, :, None] - best @ moments.x[:, :, None]).flatten()
        conv.bias.add_(lost)


def _solve(
    dense: Tensor,
    moments: Moments,
    stays: least_squares.Select,
    settings: ObsSettings,
    channel_cost: Tensor | None,
) -> Tensor:
    """Return the weights by sparse least squares, in units in which inputs and channels have variance 1."""
    h, unit = normalised(moments.xx, settings.damping)
    scale, c = unit[:, None], None
    if channel_cost is not None:
        c, row_unit = unit_diagonal(channel_cost)
        scale = scale * row_unit[:, :, None]
    target = _target(dense, moments, ridge(moments.xx, settings.pull)) * scale
    support = least_squares.find_support(target, h, stays, c)
    return least_squares.refit(target, h, support, target, c) / scale * support


def _target(dense: Tensor, moments: Moments, pull: Tensor) -> Tensor:
    """Return dense weights that best reproduce the dense network's outputs on the layer's present inputs."""
    outputs = dense @ (moments.yx + pull)
    return torch.linalg.solve(moments.xx + pull, outputs.mT).mT


def selector(
    conv: nn.Conv2d,
    count: int,
    pattern: AnyPattern | None,
    choose: Callable[[Tensor, int, AnyPattern | None], Tensor] = select,
) -> least_squares.Select:
    """Return a function that selects count weights by scores [groups, rows, k].

    choose: select, or project for scores that are magnitudes. pattern: applied if it fits the layer.
    """
    shape = conv.weight.shape
    takes = pattern is not None and count < conv.weight.numel() and pattern.fits(shape)
    fitting = pattern if takes else None

    def stays(scores: Tensor) -> Tensor:
        chosen = choose(scores.reshape(shape), count, fitting)
        return chosen.reshape(conv.groups, -1, scores.shape[-1])

    return stays


def ridge(xx: Tensor, share: float) -> Tensor:
    """Return a diagonal matrix [groups, k, k] with this share of the mean variance in xx.

    Rounding can make the variance of a constant input negative; what it lacks is added too.
    """
    variance = xx.diagonal(dim1=1, dim2=2)
    mean = variance.mean(-1, keepdim=True).clamp(min=SMALLEST_VARIANCE)
    return torch.diag_embed((share * mean).expand_as(variance) + (-variance).clamp(min=0))


def normalised(xx: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Return xx with damping, in units in which its diagonal is 1, and these units [groups, k]."""
    return unit_diagonal(xx + ridge(xx, damping))


def unit_diagonal(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return h [groups, k, k] in units in which its diagonal is 1, and these units [groups, k]."""
    unit = h.diagonal(dim1=1, dim2=2).sqrt()
    return h / (unit[:, :, None] * unit[:, None]), unit


def grouped(weight: Tensor, groups: int) -> Tensor:
    """Reshape a weight [out, in / groups, height, width] to [groups, out / groups, k]. Return a copy."""
    return weight.flatten(1).unflatten(0, (groups, -1)).clone()
