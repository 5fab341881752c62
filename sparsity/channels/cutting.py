"""Cutting of channels: a smaller network with some of the channels of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.channels.graph import Channels, Ends
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network, build


def cut(network: Network, channels: Channels, keep: Tensor) -> Network:
    """Return a new network, in evaluation mode, with only the channels to keep. network is not changed.

    channels: as trace_channels returns them. keep: bool [identities].
    The result computes the same as network with the other channels set to 0 where a convolution reads them.
    Raises InputError where a pinned channel, or all channels of a layer, would be cut.
    """
    _check(channels, keep)
    smaller = copy.deepcopy(network)
    for name, ends in channels.layers.items():
        layer = smaller.get_submodule(name)
        if isinstance(layer, nn.Conv2d):
            _cut_convolution(layer, ends, keep)
        else:
            _cut_norm(layer, keep[ends.outputs])
    for name, identities in channels.factors.items():
        block, _, own = name.rpartition(".")
        _cut_factors(smaller.get_submodule(block), own, keep[identities])
    result = build(current_architecture(smaller), network.names, smaller.state_dict())
    result.trained_with = network.trained_with
    return result


def _check(channels: Channels, keep: Tensor) -> None:
    if keep.shape != channels.pinned.shape or keep.dtype != torch.bool:
        came = f"{keep.dtype} {list(keep.shape)}"
        raise InputError(f"`keep` is {came}; torch.bool {list(channels.pinned.shape)} is expected")
    for name, ends in channels.layers.items():
        for side in (ends.inputs, ends.outputs):
            if (channels.pinned & ~keep)[side].any():
                raise InputError(f"{name}: `keep` would cut a pinned channel; keep it")
            if not keep[side].any():
                raise InputError(f"{name}: `keep` would cut all of its {len(side)} channels; keep 1")


def _cut_convolution(conv: nn.Conv2d, ends: Ends, keep: Tensor) -> None:
    inputs, outputs = (keep[side].to(conv.weight.device) for side in (ends.inputs, ends.outputs))
    weight = conv.weight.detach()[outputs]
    conv.in_channels, conv.out_channels = int(inputs.sum()), int(outputs.sum())
    if conv.groups == 1:
        weight = weight[:, inputs]
    elif not (inputs.all() and outputs.all()):
        # The convolution is depthwise: the channels of other grouped convolutions are pinned.
        conv.groups = conv.out_channels
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.detach()[outputs], requires_grad=False)


def _cut_norm(norm: nn.BatchNorm2d, kept: Tensor) -> None:
    kept = kept.to(norm.weight.device)
    norm.num_features = int(kept.sum())
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name).detach()[kept], requires_grad=False))
    for name in ("running_mean", "running_var"):
        setattr(norm, name, getattr(norm, name)[kept])


def _cut_factors(block: nn.Module, name: str, kept: Tensor) -> None:
    factors = getattr(block, name).detach()
    setattr(block, name, nn.Parameter(factors[kept.to(factors.device)], requires_grad=False))
