"""Sparse training: batch norms' scales are pulled towards 0, so that channels die that are missed least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.channels.graph import trace_channels
from sparsity.channels.scores import channel_scores, free_channels
from sparsity.training.settings import RECIPES
from sparsity.yolo.network import Network

SMALL = 0.01
"""A scale that is below this share of its layer's largest could go."""
DECAY = 0.9
"""The share of their pull that scales have lost at the end."""
BINS = 60
MOST = 0.99
ROOM = 1.1
"""The last bin ends so far above what this share of the scales is below at first; all above is in it too."""


@dataclass(frozen=True)
class ScaleBin:
    """How many free channels' scales were in a bin after an epoch (0: before the first); ties count once."""

    epoch: int
    low: float
    high: float
    channels: int


class ScalePenalty:
    """The L1 norm of the scales (and shifts) of free channels, by its gradients (arXiv:1708.06519).

    rate: what is added to a scale's gradient at first, with its sign. tied: whether the channels that a
    residual addition ties are pulled as well.
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
        """Add rate x (1 - 0.9 epoch / epochs) x sign to scales' gradients; to shifts' what the recipe says.

        epoch: from 0.
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
        """How many channels are pulled; those that are tied count once."""
        return int(self._free.sum())

    def scales(self, network: Network) -> Tensor:
        """float32 [free]: each free channel's scale, of those that are tied the largest."""
        return channel_scores(network, self._channels, "bn")[self._free]

    @torch.no_grad()
    def count_small(self, network: Network) -> int:
        """How many free channels' scales, all that it has, are below SMALL of their layer's largest."""
        small = self._free.clone()
        for name, outputs in self._norms.items():
            scales = network.get_submodule(name).weight.abs().cpu()
            small[outputs[scales >= SMALL * scales.max()]] = False
        return int(small.sum())


def histogram(scales: Tensor, epoch: int, high: float = 0.0) -> list[ScaleBin]:
    """The scales' distribution over bins from 0 to high; to a little above nearly all where high is 0."""
    high = high or ROOM * float(scales.quantile(MOST)) or 1.0
    counts = torch.histc(scales.clamp(max=high), BINS, 0, high).int().tolist()
    edges = [high * i / BINS for i in range(BINS + 1)]
    return [ScaleBin(epoch, *edges[i : i + 2], count) for i, count in enumerate(counts)]
