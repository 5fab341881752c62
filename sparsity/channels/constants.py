"""Channels that are constant: what they add to a convolution that reads them, and what follows behind them.

Constants are float64, one for each value (a channel of a map); nan for a value that is not constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Return whether each output channel reads one input channel of its own."""
    return conv.groups == conv.in_channels == conv.out_channels


def constant_shift(conv: nn.Conv2d, inputs: Tensor, known: Tensor) -> Tensor:
    """Return what the known inputs add to each output, away from padding: float64 [out_channels].

    conv: without groups, or depthwise. inputs: float64 [in_channels]. known: bool [in_channels], those to
    take.
    """
    kernels = conv.weight.double().sum((2, 3)).cpu()
    if conv.groups > 1:
        kernels = torch.diag(kernels[:, 0])
    return kernels[:, known] @ inputs[known]


def add_to_bias(conv: nn.Conv2d, shift: Tensor) -> None:
    """Add to a convolution's bias, in place; it gets one where it has none."""
    if conv.bias is None:
        conv.bias = nn.Parameter(torch.zeros_like(conv.weight[:, 0, 0, 0]), requires_grad=False)
    conv.bias.copy_((conv.bias.double() + shift.to(conv.bias.device)).to(conv.bias.dtype))


def pass_on(module: nn.Module | None, inputs: Sequence[Tensor]) -> Tensor:
    """Return the constants behind an activation, a pooling or an addition (None)."""
    return sum(inputs) if module is None else module(inputs[0])
