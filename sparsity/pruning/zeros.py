"""The sparsity of a network, for each layer and in total."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sparsity.pruning.layers import convolutions


@dataclass(frozen=True)
class LayerSparsity:
    """The sparsity of a Conv2d. shape: [out, in / groups, height, width]. weights, zeros: their numbers."""

    name: str
    shape: tuple[int, ...]
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """The fraction of weights that are zero, in [0, 1]."""
        return self.zeros / self.weights


@dataclass(frozen=True)
class Sparsity:
    """The sparsity of a network.

    conv_layers: the number of Conv2d layers. conv_weights, conv_zeros: of all Conv2d, without biases.
    parameters, parameter_zeros: of all parameters, with biases (what YOLOv5's log calls global).
    """

    conv_layers: int
    conv_weights: int
    conv_zeros: int
    parameters: int
    parameter_zeros: int

    @property
    def conv(self) -> float:
        """The fraction of Conv2d weights that are zero, in [0, 1]."""
        return self.conv_zeros / self.conv_weights

    @property
    def model(self) -> float:
        """The fraction of all parameters that are zero, in [0, 1]."""
        return self.parameter_zeros / self.parameters


def layer_sparsity(network: nn.Module) -> list[LayerSparsity]:
    """Count the zeros of each Conv2d, in the network's order."""
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
