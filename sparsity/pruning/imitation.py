"""How far a network is from the dense network that it was made from: in its outputs and in its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

SMALLEST_SPREAD = 1e-6
"""A map that is constant on the images has no spread to compare an error with."""
SMALL_SIDE = 8
"""The side up to which a map's variance is that of all positions."""


class BlockOutputs(AbstractContextManager["BlockOutputs"]):
    """Records the outputs of a network's blocks while it runs, in the order of execution.

    A block is a module that holds a Conv2d itself, such as a convolution with its activation, and gives one
    tensor. Two networks of the same architecture have the same blocks, with batch norms or without.
    active: whether anything is recorded; what is recorded is in memory together. every, turn: record only
    each every-th block, from number turn on.
    """

    def __init__(self, network: nn.Module, *, active: bool = True, every: int = 1, turn: int = 0) -> None:
        self._outputs: list[Tensor] = []
        blocks = [block for block in network.modules() if active and _holds_convolution(block)]
        self._handles = [block.register_forward_hook(self._record) for block in blocks[turn % every :: every]]

    def _record(self, _block: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            self._outputs.append(output)

    def take(self) -> list[Tensor]:
        """Return what was recorded since the last call."""
        taken, self._outputs = self._outputs, []
        return taken

    def __exit__(self, *_error: object) -> None:
        """Stop recording, and forget what was recorded."""
        for handle in self._handles:
            handle.remove()
        self._outputs = []


def blocks_error(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the mean over the blocks of the squared error as a share of the variance: a float32 scalar.

    maps, wanted: the outputs of the blocks of both networks for the same images.
    Source: Kurtic et al., "Sparse fine-tuning for inference acceleration of large language models",
    arXiv:2310.06927 (SquareHead), with the variance instead of the mean square.
    """
    terms = [_relative(one.float(), other.float()) for one, other in zip(maps, wanted, strict=True)]
    return torch.stack(terms).mean() if terms else torch.zeros(())


def outputs_error(outputs: Sequence[Tensor], wanted: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted squared error of the outputs as a share of their weighted variance: a scalar.

    outputs, wanted: of both networks, [batch, channels, height, width]. weights: of the squared errors, the
    same shapes. The variance is that of each channel over all positions.
    """
    errors, spreads = [], []
    for one, other, weight in zip(outputs, wanted, weights, strict=True):
        one, other, weight = one.float(), other.float(), weight.float()
        places = [0, *range(2, other.dim())]
        total = weight.sum(places, keepdim=True).clamp(min=SMALLEST_SPREAD)
        mean = (weight * other).sum(places, keepdim=True) / total
        errors.append((weight * (one - other).square()).sum())
        spreads.append((weight * (other - mean).square()).sum())
    return torch.stack(errors).sum() / torch.stack(spreads).sum().clamp(min=SMALLEST_SPREAD)


def _relative(one: Tensor, other: Tensor) -> Tensor:
    # A quarter of the positions tells the variance of a large map.
    spread = (other[..., ::2, ::2] if min(other.shape[-2:]) > SMALL_SIDE else other).var()
    return mse_loss(one, other) / (spread + SMALLEST_SPREAD)


def _holds_convolution(module: nn.Module) -> bool:
    return any(isinstance(child, nn.Conv2d) for child in module.children())
