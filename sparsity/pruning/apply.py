"""Pruning a network in place by torch.nn.utils.prune, and counting what is zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from sparsity.errors import InputError

Scope = Literal["layer", "global"]
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


def check_amount(amount: float) -> float:
    """Return the amount. Raises InputError unless it is a number with 0 <= amount < 1."""
    if not isinstance(amount, Real) or not 0 <= amount < 1 or math.isnan(amount):
        raise InputError(
            f"sparsity is {amount!r}; a fraction from 0 (dense) to less than 1 is expected, "
            "for example 0.3 for 30%"
        )
    return float(amount)


def prune(network: Module, amount: float, scope: Scope = "layer") -> Module:
    """Set the smallest weights of every Conv2d to zero, permanently and in place; returns the network.

    amount: the fraction to prune, 0 <= amount < 1. Per layer torch prunes round(amount * weights).
    scope: "layer" prunes that fraction of each layer (l1_unstructured), "global" that fraction of
    all layers' weights together (global_unstructured).
    Fuse batch norms first: it changes which weights are smallest.
    Raises InputError for another amount or scope, or a network without Conv2d.

    Source: torch.nn.utils.prune; Han et al., arXiv:1506.02626.
    """
    amount = check_amount(amount)
    if scope not in get_args(Scope):
        raise InputError(f"scope is {scope!r}; one of {', '.join(get_args(Scope))} is expected")
    convs = [conv for _, conv in convolutions(network)]
    if not convs:
        raise InputError(f"{type(network).__name__} has no Conv2d to prune")
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


def convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Every Conv2d of a network by its name, in the network's order."""
    return ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


def _zeros(tensor: torch.Tensor) -> int:
    return tensor.numel() - int(torch.count_nonzero(tensor))
