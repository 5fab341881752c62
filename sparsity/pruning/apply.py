"""Pruning a network in place by torch.nn.utils.prune, and counting what is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sparsity.pruning.amounts import Scope, check_amount, check_scope, keep_counts
from sparsity.pruning.criteria import magnitude_masks
from sparsity.pruning.layers import convolutions, require_convolutions
from sparsity.pruning.patterns import Pattern, parse_pattern

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class LayerSparsity:
    """One Conv2d: its name and shape [out, in / groups, height, width], its weights, how many are 0."""

    name: str
    shape: tuple[int, ...]
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """Zeros over weights, in [0, 1]."""
        return self.zeros / self.weights


@dataclass(frozen=True)
class Sparsity:
    """How much of a network is zero.

    conv_*: the weights of every Conv2d, without biases.
    parameters, parameter_zeros: all parameters, biases included (what YOLOv5's log calls global).
    """

    conv_layers: int
    conv_weights: int
    conv_zeros: int
    parameters: int
    parameter_zeros: int

    @property
    def conv(self) -> float:
        """Zeros over the weights of every Conv2d, in [0, 1]."""
        return self.conv_zeros / self.conv_weights

    @property
    def model(self) -> float:
        """Zeros over all parameters, in [0, 1]."""
        return self.parameter_zeros / self.parameters


def prune(
    network: Module,
    amount: float,
    scope: Scope = "layer",
    *,
    keep: Sequence[str] = (),
    pattern: str | Pattern | None = None,
) -> Module:
    """Set the smallest weights of every Conv2d to zero, permanently and in place; returns the network.

    amount: the fraction to prune, 0 <= amount < 1. Per layer torch prunes round(amount * weights).
    scope: "layer" prunes that fraction of each layer (l1_unstructured), "global" that fraction of
    all layers' weights together (global_unstructured); "lamp" and "erk" prune as much in all, and share
    it out as keep_counts says.
    keep: names of layers that stay dense, with wildcards: 'model.24.*'.
    pattern: N:M as "2:4", at most n of every m consecutive input channels; "" or None for none.
    Fuse batch norms first: it changes which weights are smallest.
    Raises InputError for another amount, scope or pattern, a name that matches no layer, an amount
    that can't be reached, or a network without Conv2d.

    Source: torch.nn.utils.prune; Han et al., arXiv:1506.02626.
    """
    amount = check_amount(amount)
    check_scope(scope)
    if isinstance(pattern, str):
        pattern = parse_pattern(pattern)
    if scope in ("layer", "global") and not keep and not pattern:
        return _prune_by_torch(network, amount, scope)
    counts = keep_counts(network, amount, scope, keep=keep, pattern=pattern)
    return apply_masks(network, magnitude_masks(network, counts, pattern))


def apply_masks(network: Module, masks: Mapping[str, Tensor]) -> Module:
    """Set the weights where a mask is False to zero, permanently and in place; returns the network.

    masks: bool [out, in / groups, height, width] by the name of the Conv2d.
    """
    for name, mask in masks.items():
        conv = network.get_submodule(name)
        torch_prune.custom_from_mask(conv, "weight", mask.to(conv.weight.device))
        torch_prune.remove(conv, "weight")
    return network


def _prune_by_torch(network: Module, amount: float, scope: Scope) -> Module:
    convs = list(require_convolutions(network).values())
    for conv in convs:
        # torch's pruning methods view the weights as one row.
        conv.weight.data = conv.weight.data.contiguous()
    if scope == "layer":
        for conv in convs:
            torch_prune.l1_unstructured(conv, "weight", amount)
    else:
        weights = [(conv, "weight") for conv in convs]
        torch_prune.global_unstructured(weights, _LeanL1Unstructured, amount=amount)
    for conv in convs:
        torch_prune.remove(conv, "weight")
    return network


def layer_sparsity(network: nn.Module) -> list[LayerSparsity]:
    """Count each Conv2d's zeros, in the network's order."""
    return [
        LayerSparsity(name, tuple(conv.weight.shape), conv.weight.numel(), _zeros(conv.weight))
        for name, conv in convolutions(network)
    ]


def count_sparsity(network: nn.Module) -> Sparsity:
    """Count the zeros of every Conv2d and of all parameters."""
    layers = layer_sparsity(network)
    parameters = list(network.parameters())
    return Sparsity(
        conv_layers=len(layers),
        conv_weights=sum(layer.weights for layer in layers),
        conv_zeros=sum(layer.zeros for layer in layers),
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_zeros=sum(_zeros(parameter) for parameter in parameters),
    )


class _LeanL1Unstructured(torch_prune.L1Unstructured):
    """L1Unstructured that selects by a threshold instead of topk, for many weights at once.

    topk over the 87 million weights of YOLOv5x takes 1.4 GB for its pairs of value and index.
    """

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        count = round(self.amount * t.numel())
        mask = default_mask.clone()
        if count == 0:
            return mask
        magnitudes = t.detach().abs().float().view(-1)
        threshold = np.partition(magnitudes.cpu().numpy(), count - 1)[count - 1].item()
        below = magnitudes < threshold
        mask.view(-1)[below] = 0
        ties = (magnitudes == threshold).nonzero().view(-1)
        mask.view(-1)[ties[: count - int(below.sum())]] = 0
        return mask


def _zeros(tensor: torch.Tensor) -> int:
    return tensor.numel() - int(torch.count_nonzero(tensor))
