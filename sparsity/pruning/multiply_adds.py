"""The multiply-adds of a network for one image: all, and those of weights that are not 0."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.pruning.budgets import WEIGHTS, Budget
from sparsity.pruning.layers import convolutions, every_output

BILLION = 1e9


@dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of a network for one image.

    total: of all Conv2d and of attention's products. left: those by weights that are not zero, and all of
    attention's products. products: of attention's products alone, which have no weights.
    """

    total: int
    left: int
    products: int = 0

    @property
    def left_share(self) -> float:
        """The share of the multiply-adds that is left, in [0, 1]."""
        return self.left / self.total


@dataclass(frozen=True)
class _Work:
    """cells: output positions of each Conv2d for one image, by name. products: see MultiplyAdds."""

    cells: dict[str, int]
    products: int


def output_cells(network: nn.Module, sides: Sequence[int]) -> dict[str, int]:
    """Return how many output positions each Conv2d has for one image, which is how often a weight is used.

    sides: the image's height and width, multiples of the largest stride. Only shapes are computed. A layer
    that runs twice counts twice; one that does not run has 0.
    """
    return _work(network, sides).cells


def count_multiply_adds(network: nn.Module, sides: Sequence[int]) -> MultiplyAdds:
    """Count the multiply-adds of a network for an image of this height and width (see output_cells)."""
    work = _work(network, sides)
    convs = dict(convolutions(network))
    return MultiplyAdds(
        work.products + sum(work.cells[name] * conv.weight.numel() for name, conv in convs.items()),
        work.products
        + sum(work.cells[name] * int(torch.count_nonzero(conv.weight)) for name, conv in convs.items()),
        work.products,
    )


def count_gflops(network: nn.Module, sides: Sequence[int]) -> float:
    """Return the operations of the convolutions for one image, in 1e9: two for each multiply-add.

    Zeros count as other weights do. Attention's products do not count, as in the published figures.
    sides: see output_cells.
    """
    counted = count_multiply_adds(network, sides)
    return 2 * (counted.total - counted.products) / BILLION


@dataclass(frozen=True)
class Prices:
    """The prices for a budget.

    of_weights: the price of a weight by the name of its Conv2d. fixed: what no weight changes.
    """

    of_weights: dict[str, int]
    fixed: int


def prices(network: nn.Module, budget: Budget | str, sides: Sequence[int]) -> Prices | None:
    """Return the prices for a budget; None where all weights have the same price.

    budget: "weights": the amount is a share of the weights. "flops": of the multiply-adds for an image of
    this height and width, so a weight costs as much as its layer has output positions. The products of
    attention are fixed. Every branch of the network's head counts (see layers.every_output).
    """
    if budget == WEIGHTS:
        return None
    work = _work(network, sides, every=True)
    return Prices(work.cells, work.products)


def _work(network: nn.Module, sides: Sequence[int], *, every: bool = False) -> _Work:
    """Return the work of a network for one image. every: of every branch, otherwise of the one that runs."""
    cells = {name: 0 for name, _ in convolutions(network)}
    products: list[int] = []
    double = _without_values(network)

    def watch(name: str, conv: nn.Conv2d) -> None:
        def count(_conv: nn.Module, _inputs: object, output: Tensor) -> None:
            cells[name] += output.shape[-2] * output.shape[-1]

        conv.register_forward_hook(count)

    for name, conv in convolutions(double):
        watch(name, conv)
    for module in double.modules():
        if hasattr(module, "multiply_adds"):  # Attention, whose products have no weights.
            module.register_forward_hook(lambda one, inputs, _y: products.append(one.multiply_adds(*inputs)))
    run = every_output(double) if every else double
    with torch.no_grad():
        run(torch.empty(1, 3, *sides, device="meta"))
    return _Work(cells, sum(products))


def _without_values(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode that has shapes, but no values and no memory for them."""
    tensors = [*network.parameters(), *network.buffers()]
    memo = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(memo[id(parameter)], requires_grad=False)
    return copy.deepcopy(network, memo).eval()
