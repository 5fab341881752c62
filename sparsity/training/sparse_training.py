"""Sparse training: a penalty pulls batch norms' scales towards 0, so that unimportant channels can be cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.channels.graph import trace_channels
from sparsity.channels.scores import channel_scores, follow_scores, free_channels
from sparsity.training.settings import RECIPES
from sparsity.yolo.network import Network

SMALL = 0.01
"""A channel could be cut if its scale is below this fraction of the largest scale in its layer."""
DECAY = 0.9
"""The fraction of the penalty on scales that is gone at the end of the training."""
BINS = 60
MOST = 0.99
ROOM = 1.1
"""The last bin ends at this factor times the MOST quantile of the initial scales.

It also counts all larger scales.
"""


@dataclass(frozen=True)
class ScaleBin:
    """The number of free channels with a scale in a bin after an epoch (0: before the first).

    Tied channels count once.
    """

    epoch: int
    low: float
    high: float
    channels: int


class ScalePenalty:
    """L1 penalty on the scales (and shifts) of free channels, added to their gradients (arXiv:1708.06519).

    rate: what is initially added to the gradient of a scale, with the sign of the scale.
    tied: whether channels that a residual addition ties are penalised as well.
    """

    def __init__(self, network: Network, rate: float, recipe: str, *, tied: bool, epochs: int) -> None:
        self._channels = trace_channels(network)
        self._free = free_channels(self._channels, tied=tied)
        self.rate, self.recipe, self.epochs = rate, recipe, epochs
        layers = self._channels.layers.items()
        self._norms = {
            name: ends.outputs
            for name, ends in layers
            if isinstance(network.get_submodule(name), nn.BatchNorm2d)
        }

    @torch.no_grad()
    def add_to_gradients(self, network: nn.Module, epoch: int) -> None:
        """Add the penalty to the gradients of scales and shifts. epoch: from 0.

        Scales get rate x (1 - 0.9 epoch / epochs) x sign. Shifts get rate x RECIPES[recipe] x sign.
        """
        scale_rate = self.rate * (1 - DECAY * epoch / self.epochs)
        shift_rate = self.rate * RECIPES[self.recipe]
        for name, outputs in self._norms.items():
            norm = network.get_submodule(name)
            free = self._free[outputs].to(norm.weight.device)
            norm.weight.grad.add_(norm.weight.sign() * free, alpha=scale_rate)
            norm.bias.grad.add_(norm.bias.sign() * free, alpha=shift_rate)

    @property
    def free(self) -> int:
        """The number of penalised channels. Tied channels count once."""
        return int(self._free.sum())

    def scales(self, network: Network) -> Tensor:
        """Return the scale of each free channel, float32 [free]. For tied channels it is their largest."""
        return channel_scores(network, self._channels, "bn")[self._free]

    @torch.no_grad()
    def count_small(self, network: Network) -> int:
        """Return how many free channels have scales below SMALL of the largest in their layer.

        Of several scales, those count that the score of a channel follows from.
        """
        scales = {name: network.get_submodule(name).weight.abs().cpu() for name in self._norms}
        relative = {name: one / one.max().clamp(min=1e-30) for name, one in scales.items()}
        found = follow_scores(network, self._channels, relative)[self._free]
        return int((found.isfinite() & (found < SMALL)).sum())


def histogram(scales: Tensor, epoch: int, high: float = 0.0) -> list[ScaleBin]:
    """Return the distribution of the scales over bins from 0 to high.

    If high is 0, the bins end a little above nearly all of the scales.
    """
    high = high or ROOM * float(scales.quantile(MOST)) or 1.0
    counts = torch.histc(scales.clamp(max=high), BINS, 0, high).int().tolist()
    edges = [high * i / BINS for i in range(BINS + 1)]
    return [ScaleBin(epoch, *edges[i : i + 2], count) for i, count in enumerate(counts)]
