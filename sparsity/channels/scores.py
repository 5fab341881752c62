"""The score of each channel of a network, and the channels that are free to be cut."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from sparsity.channels.constants import is_depthwise
from sparsity.channels.graph import Channels, operation
from sparsity.channels.slimming_settings import By
from sparsity.yolo.network import Network, fuse


def free_channels(channels: Channels, *, tied: bool) -> Tensor:
    """Return which channels can be cut: bool [identities].

    tied: whether this includes channels that residual additions tie, and heads of attention.
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
    then be compared. follow_scores says how the score of an identity follows from them.
    """
    found = _scales(network, channels) if by == "bn" else _filter_norms(network, channels)
    return follow_scores(network, channels, dict(found))


def follow_scores(network: Network, channels: Channels, own: Mapping[str, Tensor]) -> Tensor:
    """Return the score of each identity: float32 [identities]; -inf for an identity without a score.

    own: the scores of the outputs of Conv2d and BatchNorm2d, by their names.
    The score of an identity is the largest of the values that convolutions read, depthwise ones left out. A
    value that comes through a depthwise convolution has the smaller of the scores before and after it: if
    either is 0, the channel is dead. A sum has the largest score of its terms. Queries and keys are only read
    by attention, so that the score of a head is that of its values. Factors multiply scores.
    """
    scores = torch.full(channels.pinned.shape, -torch.inf)
    reached = torch.full(channels.identity.shape, torch.inf)
    for step in channels.steps:
        found, inputs = operation(network, step), [reached[x] for x in step.inputs]
        outputs = inputs[0]
        if isinstance(found, nn.Conv2d) and not is_depthwise(found):
            scores.scatter_reduce_(0, channels.identity[step.inputs[0]], inputs[0], "amax")
            outputs = torch.full((found.out_channels,), torch.inf)
        elif isinstance(found, Tensor):
            outputs = outputs * found.detach().float().abs().cpu()
        elif found is None:
            outputs = torch.stack(inputs).amax(0)
        if step.module in own:
            outputs = outputs.minimum(own[step.module].detach().float().cpu())
        reached[step.outputs] = outputs
    return scores.masked_fill(scores.isinf(), -torch.inf)


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
