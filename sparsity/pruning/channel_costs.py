"""The cost of errors in the channels of a layer: how much they change the outputs of the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sparsity.pruning.layers import convolutions, every_output

Weigh = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""The outputs of a network -> the weight of each number in them, in the same shapes."""


def channel_costs(
    network: nn.Module, batches: Sequence[Tensor], weigh: Weigh, *, seed: int = 0
) -> dict[str, Tensor]:
    """Return the cost of errors in the channels: [groups, rows, rows] by the name of the Conv2d.

    rows: the output channels of a group. batches: images [n, 3, height, width]. weigh: gives the weights of
    the squared errors of the outputs. An error e of the channels costs e^T C e at each position: the weighted
    sum of the squared errors of the outputs for an image, to first order in the error, if the errors of
    different positions and groups are independent. C is a block of J^T W J, where J is the derivative of the
    outputs by the channels and W the weights, summed over positions. Random signs estimate it (Hutchinson).

    Source: Gauss-Newton approximation; Hutchinson 1990; Martens and Grosse, "K-FAC", arXiv:1503.05671.
    """
    network = copy.deepcopy(network).requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    costs = {name: _no_costs(conv) for name, conv in convolutions(network)}
    handles = [conv.register_forward_hook(_watcher(costs[name])) for name, conv in convolutions(network)]
    parameters, run = list(network.parameters()), every_output(network)
    with torch.enable_grad():
        for batch in batches:
            outputs = run(batch)
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


def _no_costs(conv: nn.Conv2d) -> Tensor:
    rows = len(conv.weight) // conv.groups
    return conv.weight.detach().new_zeros(conv.groups, rows, rows)


def _watcher(costs: Tensor) -> Callable[[nn.Module, object, Tensor], None]:
    """Return a forward hook. It adds the products of the gradients of the layer's outputs to costs."""

    def add(gradient: Tensor) -> None:
        rows = gradient.unflatten(1, costs.shape[:2]).movedim(0, 2).flatten(2)
        costs.add_(rows @ rows.mT)

    def watch(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        output.register_hook(add)

    return watch


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
