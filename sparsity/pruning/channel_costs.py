"""The cost of an error in a channel: how much it changes the outputs of the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sparsity.pruning.layers import convolutions

Weigh = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""The outputs of a network -> the weight of each number in them, in the same shapes."""


def channel_costs(
    network: nn.Module, batches: Sequence[Tensor], weigh: Weigh, *, seed: int = 0
) -> dict[str, Tensor]:
    """Return the cost of an error of variance 1 in a channel: [out channels] by the name of the Conv2d.

    batches: images [n, 3, height, width]. weigh: gives the weights of the squared errors of the outputs. The
    cost is the weighted sum of these squared errors for an image, to first order in the error. It is the
    diagonal of J^T W J, where J is the derivative of the outputs by the channel and W the weights. Random
    signs estimate it (Hutchinson).

    Source: Gauss-Newton approximation; Hutchinson 1990.
    """
    network = copy.deepcopy(network).requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    costs = {
        name: torch.zeros(len(conv.weight), device=conv.weight.device) for name, conv in convolutions(network)
    }
    handles = [conv.register_forward_hook(_watcher(costs[name])) for name, conv in convolutions(network)]
    parameters = list(network.parameters())
    with torch.enable_grad():
        for batch in batches:
            outputs = network(batch)
            weights = weigh([output.detach() for output in outputs])
            total = sum(
                (output * weight.sqrt() * _signs(output, generator)).sum()
                for output, weight in zip(outputs, weights, strict=True)
            )
            torch.autograd.grad(total, parameters, allow_unused=True)
    for handle in handles:
        handle.remove()
    images = sum(len(batch) for batch in batches)
    return {name: cost / images for name, cost in costs.items()}


def _watcher(costs: Tensor) -> Callable[[nn.Module, object, Tensor], None]:
    """Return a forward hook. It adds the squared gradients of the layer's output to costs."""

    def add(gradient: Tensor) -> None:
        costs.add_(gradient.square().sum((0, 2, 3)))

    def watch(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        output.register_hook(add)

    return watch


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
