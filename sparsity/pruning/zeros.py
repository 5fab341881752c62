"""How much of a network is zero, by layer and in all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sparsity.pruning.layers import convolutions


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


def _zeros(tensor: torch.Tensor) -> int:
    return tensor.numel() - int(torch.count_nonzero(tensor))
