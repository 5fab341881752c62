"""Which weights are zero for good, and keeping them so."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsity.pruning.apply import Scope, convolutions, prune
from sparsity.yolo.network import Network, fuse


class Masks:
    """The weights that stay zero, by the name of their Conv2d's weight: True where a weight may live."""

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
        """Set the masked weights' gradients to zero, in place, so that no momentum gathers in them."""
        for name, keep in self.keep.items():
            gradient = network.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(keep.to(gradient.device))

    @property
    def zeros(self) -> int:
        """How many weights are masked."""
        return sum(keep.numel() - int(keep.sum()) for keep in self.keep.values())

    @property
    def weights(self) -> int:
        """How many weights there are, masked or not."""
        return sum(keep.numel() for keep in self.keep.values())


def nonzero_masks(network: nn.Module) -> Masks:
    """Masks that keep the zeros of a network's convolutions as they are."""
    found = convolutions(network)
    return Masks({f"{name}.weight": (conv.weight != 0).detach().cpu() for name, conv in found})


def prune_unfused(network: Network, amount: float, scope: Scope) -> Masks:
    """Prune a network whose batch norms are still there, in place, as pruning it fused would.

    The weights are ranked as they are once each batch norm is folded into its convolution: these are
    the ones that val_sparse.py prunes, and the ones that run in the end.
    """
    masks = nonzero_masks(prune(fuse(copy.deepcopy(network).eval()), amount, scope))
    masks.apply(network)
    return masks


def cubic_amount(progress: float, target: float) -> float:
    """The amount of a gradual schedule: from 0 at progress 0 to target at 1, fast first, slow at the end.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878.
    """
    return target * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)
