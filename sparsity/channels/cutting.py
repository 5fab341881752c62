"""A smaller network of some of a network's channels."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.channels.graph import Channels, Ends
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network, build


def cut(network: Network, channels: Channels, keep: Tensor) -> Network:
    """A new network, in evaluation mode, of the channels to keep alone; network stays as it is.

    channels: as trace_channels gives them. keep: bool [identities].
    It gives what network would if the other channels were 0 wherever a convolution reads them.
    Raises InputError where a pinned channel is to go, or all channels of a layer.
    """
    _check(channels, keep)
    smaller = copy.deepcopy(network)
    for name, ends in channels.layers.items():
        layer = smaller.get_submodule(name)
        if isinstance(layer, nn.Conv2d):
            _cut_convolution(layer, ends, keep)
        else:
            _cut_norm(layer, keep[ends.outputs])
    return build(current_architecture(smaller), network.names, smaller.state_dict())


def _check(channels: Channels, keep: Tensor) -> None:
    if keep.shape != channels.pinned.shape or keep.dtype != torch.bool:
        came = f"{keep.dtype} {list(keep.shape)}"
        raise InputError(f"keep is {came}; torch.bool {list(channels.pinned.shape)} is expected")
    for name, ends in channels.layers.items():
        for side in (ends.inputs, ends.outputs):
            if (channels.pinned & ~keep)[side].any():
                raise InputError(f"{name}: a channel is to go that is pinned; keep it")
            if not keep[side].any():
                raise InputError(f"{name}: all of its {len(side)} channels are to go; keep one")


def _cut_convolution(conv: nn.Conv2d, ends: Ends, keep: Tensor) -> None:
    inputs, outputs = (keep[side].to(conv.weight.device) for side in (ends.inputs, ends.outputs))
    weight = conv.weight.detach()[outputs]
    conv.in_channels, conv.out_channels = int(inputs.sum()), int(outputs.sum())
    if conv.groups == 1:
        weight = weight[:, inputs]
    elif not (inputs.all() and outputs.all()):
        # Depthwise, since other groups are pinned.
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
