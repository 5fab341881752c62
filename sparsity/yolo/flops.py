"""The number of floating-point operations of a network's convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network

BILLION = 1e9


def count_gflops(network: Network, sides: Sequence[int]) -> float:
    """Return the operations of the convolutions for one image, in 1e9: two for each multiply-accumulate.

    Only shapes are computed. sides: the image's height and width, multiples of the largest stride.
    """
    with torch.device("meta"):
        shapes_only = Network(current_architecture(network), network.names).eval()
        images = torch.empty(1, 3, *sides)
    with _counting(shapes_only) as operations:
        shapes_only(images)
    return sum(operations) / BILLION


@contextmanager
def _counting(network: Network) -> Iterator[list[int]]:
    """Collect the number of operations of each convolution that runs."""
    operations: list[int] = []

    def count(conv: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        operations.append(2 * conv.weight[0].numel() * output.numel())

    convs = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    hooks = [conv.register_forward_hook(count) for conv in convs]
    try:
        yield operations
    finally:
        for hook in hooks:
            hook.remove()
