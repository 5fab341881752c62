"""Masks of the weights that stay zero during training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsity.pruning.layers import convolutions


class Masks:
    """The weights that stay zero. keep: name of a Conv2d's weight -> True where a weight is kept."""

    def __init__(self, keep: Mapping[str, Tensor]) -> None:
        self.keep = dict(keep)

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Set the masked weights to zero, in place."""
        for name, keep in self.keep.items():
            weight = network.get_parameter(name)
            weight.mul_(keep.to(weight.device))

    @torch.no_grad()
    def apply_to_gradients(self, network: nn.Module) -> None:
        """Set the gradients of the masked weights to zero, in place, so that they build up no momentum."""
        for name, keep in self.keep.items():
            gradient = network.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(keep.to(gradient.device))

    @property
    def zeros(self) -> int:
        """The number of masked weights."""
        return sum(keep.numel() - int(keep.sum()) for keep in self.keep.values())

    @property
    def weights(self) -> int:
        """The number of weights, masked or not."""
        return sum(keep.numel() for keep in self.keep.values())


def nonzero_masks(network: nn.Module) -> Masks:
    """Return masks that keep the zeros of a network's convolutions."""
    found = convolutions(network)
    return Masks({f"{name}.weight": (conv.weight != 0).detach().cpu() for name, conv in found})
