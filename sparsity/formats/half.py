"""Rounding to half precision, as in saved files: every zero stays zero, and nothing else becomes zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError

_TINIEST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps


def round_to_half(network: nn.Module) -> nn.Module:
    """Round all floating-point parameters and buffers to float16, in place. Their dtype stays the same.

    Returns the network. Its outputs are then those of a saved file of it. A number too small for float16
    becomes the smallest float16 of its sign, so that the zeros stay the same. Pruning leaves -0.0 where a
    weight was negative. It becomes 0.0, because the signs of zeros would only take space.
    Raises InputError if a value is not finite or too large for float16.
    """
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(to_half(tensor, name))
    return network


def to_half(tensor: Tensor, name: str) -> Tensor:
    """Return a copy of the tensor in float16, rounded as round_to_half does."""
    half = tensor.detach().to(torch.float16) + 0.0
    if not torch.isfinite(half).all():
        raise InputError(f"{name}: a weight is not finite or above 65504; such a network cannot be saved")
    lost = (half == 0) & (tensor != 0)
    half[lost] = tensor.detach()[lost].sign().to(torch.float16) * _TINIEST
    return half
