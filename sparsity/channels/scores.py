"""How much each channel of a network counts, and which ones are free to go."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sparsity.channels.graph import Channels
from sparsity.channels.slimming_settings import By
from sparsity.yolo.network import Network, fuse


def free_channels(channels: Channels, *, tied: bool) -> Tensor:
    """bool [identities]: which ones may go. tied: also those that a residual addition makes one."""
    free = ~channels.pinned
    for step in channels.steps:
        if not (tied or step.module):
            free[channels.identity[step.outputs]] = False
    return free


def channel_scores(network: Network, channels: Channels, by: By) -> Tensor:
    """float32 [identities]: the largest score of what makes each; -inf where nothing that has one does.

    "bn": the magnitude of its batch norm's scale (arXiv:1708.06519). "l1": the L1 norm of its filter, batch
    norm folded in, as a mean over the filter's weights, so that layers of few inputs compare with others.
    """
    scores = torch.full(channels.pinned.shape, -torch.inf)
    for name, found in _scales(network, channels) if by == "bn" else _filter_norms(network, channels):
        scores.scatter_reduce_(0, channels.layers[name].outputs, found.detach().float().cpu(), "amax")
    return scores


def _scales(network: Network, channels: Channels) -> Iterator[tuple[str, Tensor]]:
    """Each batch norm's scales, by its name."""
    for name in channels.layers:
        module = network.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            yield name, module.weight.abs()


def _filter_norms(network: Network, channels: Channels) -> Iterator[tuple[str, Tensor]]:
    """The mean magnitude of each filter's weights, by the name of its Conv2d."""
    fused = fuse(copy.deepcopy(network).eval())
    for name, module in fused.named_modules():
        if isinstance(module, nn.Conv2d) and name in channels.layers:
            yield name, module.weight.abs().mean((1, 2, 3))
