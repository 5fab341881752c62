"""The multiply-adds of a network's convolutions for one image: all, and those of weights that are not 0."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.pruning.budgets import WEIGHTS, Budget
from sparsity.pruning.layers import convolutions

BILLION = 1e9


@dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of all Conv2d for one image. left: those by weights that are not zero."""

    total: int
    left: int

    @property
    def left_share(self) -> float:
        """The share of the multiply-adds that is left, in [0, 1]."""
        return self.left / self.total


def output_cells(network: nn.Module, sides: Sequence[int]) -> dict[str, int]:
    """Return how many output positions each Conv2d has for one image, which is how often a weight is used.

    sides: the image's height and width, multiples of the largest stride. Only shapes are computed. A layer
    that runs twice counts twice; one that does not run has 0.
    """
    cells = {name: 0 for name, _ in convolutions(network)}
    double = _without_values(network)

    def watch(name: str, conv: nn.Conv2d) -> None:
        def count(_conv: nn.Module, _inputs: object, output: Tensor) -> None:
            cells[name] += output.shape[-2] * output.shape[-1]

        conv.register_forward_hook(count)

    for name, conv in convolutions(double):
        watch(name, conv)
    with torch.no_grad():
        double(torch.empty(1, 3, *sides, device="meta"))
    return cells


def count_multiply_adds(network: nn.Module, sides: Sequence[int]) -> MultiplyAdds:
    """Count the multiply-adds of a network for an image of this height and width (see output_cells)."""
    cells = output_cells(network, sides)
    convs = dict(convolutions(network))
    return MultiplyAdds(
        sum(cells[name] * conv.weight.numel() for name, conv in convs.items()),
        sum(cells[name] * int(torch.count_nonzero(conv.weight)) for name, conv in convs.items()),
    )


def count_gflops(network: nn.Module, sides: Sequence[int]) -> float:
    """Return the operations of the convolutions for one image, in 1e9: two for each multiply-add.

    Zeros count as other weights do. sides: see output_cells.
    """
    return 2 * count_multiply_adds(network, sides).total / BILLION


def prices(network: nn.Module, budget: Budget | str, sides: Sequence[int]) -> dict[str, int] | None:
    """Return the price of a weight by the name of its Conv2d; None where all weights have the same price.

    budget: "weights": the amount is a share of the weights. "flops": of the multiply-adds for an image of
    this height and width, so a weight costs as much as its layer has output positions.
    """
    return None if budget == WEIGHTS else output_cells(network, sides)


def _without_values(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that has shapes, but no values and no memory for them."""
    tensors = [*network.parameters(), *network.buffers()]
    memo = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(memo[id(parameter)], requires_grad=False)
    return copy.deepcopy(network, memo).eval()
