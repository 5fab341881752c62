"""Constant channels: what they add to convolutions, and the constants that other operations give for them.

Constants are float64, one for each value (a channel of a map). A value that is not constant has NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether each of several output channels reads a different input channel, and only this one."""
    return conv.groups == conv.in_channels == conv.out_channels > 1


def constant_shift(conv: nn.Conv2d, inputs: Tensor, known: Tensor) -> Tensor:
    """Return what the known inputs add to each output where no padding is read: float64 [out_channels].

    conv: without groups, or depthwise. inputs: the constants, float64 [in_channels]. known: which of them to
    use, bool [in_channels].
    """
    kernels = conv.weight.double().sum((2, 3)).cpu()
    if conv.groups > 1:
        kernels = torch.diag(kernels[:, 0])
    return kernels[:, known] @ inputs[known]


def add_to_bias(conv: nn.Conv2d, shift: Tensor) -> None:
    """Add shift to the bias of a convolution, in place. A missing bias is created."""
    if conv.bias is None:
        conv.bias = nn.Parameter(torch.zeros_like(conv.weight[:, 0, 0, 0]), requires_grad=False)
    conv.bias.copy_((conv.bias.double() + shift.to(conv.bias.device)).to(conv.bias.dtype))


def normalised(norm: nn.BatchNorm2d, inputs: Tensor) -> Tensor:
    """Return the constants that a batch norm gives. A channel with scale 0 is constant for any input."""
    mean, variance, weight, bias = (
        x.double().cpu() for x in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    outputs = (inputs - mean) / (variance + norm.eps).sqrt() * weight + bias
    return torch.where(weight == 0, bias, outputs)


def pass_on(operation: nn.Module | Tensor | None, inputs: Sequence[Tensor]) -> Tensor:
    """Return the constants after an activation, a parameter that multiplies channels, or a sum (None)."""
    if operation is None:
        return sum(inputs)
    if isinstance(operation, Tensor):
        factors = operation.double().cpu()
        return torch.where(factors == 0, factors, inputs[0] * factors)
    return operation(inputs[0])
