"""Masks of the weights that stay zero during training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsity.pruning.layers import convolutions


class Masks:
    """The weights that stay zero. keep: name of a Conv2d's weight -> True where a weight is kept.

    Each mask is copied once to the device of its weight, and stays there.
    """

    def __init__(self, keep: Mapping[str, Tensor]) -> None:
        self.keep = dict(keep)
        self._placed: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Set the masked weights to zero, in place."""
        for name in self.keep:
            weight = network.get_parameter(name)
            weight.mul_(self._mask(name, weight.device))

    @torch.no_grad()
    def apply_to_gradients(self, network: nn.Module) -> None:
        """Set the gradients of the masked weights to zero, in place, so that they build up no momentum."""
        for name in self.keep:
            gradient = network.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(self._mask(name, gradient.device))

    def _mask(self, name: str, device: torch.device) -> Tensor:
        mask = self._placed.get(name)
        if mask is None or mask.device != device:
            mask = self._placed[name] = self.keep[name].to(device)
        return mask

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
