"""What saved files keep of weights: half precision, with every zero and nothing else zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError

_TINIEST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps


def round_to_half(network: nn.Module) -> nn.Module:
    """Round all floating-point parameters and buffers to float16, in place, kept in their dtype.

    Returns the network: what it then gives is what a saved file of it gives. What is too small for
    float16 becomes the smallest number of its sign, so that the zeros stay what they are. Pruning leaves
    -0.0 where a weight was negative; it becomes 0.0, since signs of zeros would only take room.
    Raises InputError where a value is not finite or too large for float16.
    """
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(to_half(tensor, name))
    return network


def to_half(tensor: Tensor, name: str) -> Tensor:
    """The tensor in float16, as round_to_half says; always a copy."""
    half = tensor.detach().to(torch.float16) + 0.0
    if not torch.isfinite(half).all():
        raise InputError(f"{name}: a weight is not finite or above 65504; such a network can't be saved")
    lost = (half == 0) & (tensor != 0)
    half[lost] = tensor.detach()[lost].sign().to(torch.float16) * _TINIEST
    return half
