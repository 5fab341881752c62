"""The score of each channel of a network, and the channels that are free to be cut."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sparsity.channels.graph import Channels
from sparsity.channels.slimming_settings import By
from sparsity.yolo.network import Network, fuse


def free_channels(channels: Channels, *, tied: bool) -> Tensor:
    """Return which channels can be cut: bool [identities].

    tied: whether this includes channels that residual additions tie.
    """
    free = ~channels.pinned
    for step in channels.steps:
        if not (tied or step.module):
            free[channels.identity[step.outputs]] = False
    return free


def channel_scores(network: Network, channels: Channels, by: By) -> Tensor:
    """Return the score of each identity: float32 [identities]; -inf for an identity without a score.

    by: "bn" is the magnitude of the batch norm's scale (arXiv:1708.06519). "l1" is the L1 norm of the filter,
    with the batch norm folded in, divided by its number of weights; layers with few and with many inputs can
    then be compared. If several channels share an identity, their largest score counts.
    """
    scores = torch.full(channels.pinned.shape, -torch.inf)
    for name, found in _scales(network, channels) if by == "bn" else _filter_norms(network, channels):
        scores.scatter_reduce_(0, channels.layers[name].outputs, found.detach().float().cpu(), "amax")
    return scores


def _scales(network: Network, channels: Channels) -> Iterator[tuple[str, Tensor]]:
    """Yield the magnitudes of the scales of each batch norm, with its name."""
    for name in channels.layers:
        module = network.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            yield name, module.weight.abs()


def _filter_norms(network: Network, channels: Channels) -> Iterator[tuple[str, Tensor]]:
    """Yield the mean magnitude of the weights of each filter, with the name of the Conv2d."""
    fused = fuse(copy.deepcopy(network).eval())
    for name, module in fused.named_modules():
        if isinstance(module, nn.Conv2d) and name in channels.layers:
            yield name, module.weight.abs().mean((1, 2, 3))
