"""Reconstruction: the kept weights learn, on images without labels, to give what the dense network gives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.pruning.channel_costs import Weigh
from sparsity.pruning.imitation import BlockOutputs, blocks_error, outputs_error
from sparsity.pruning.layers import convolutions, every_output
from sparsity.pruning.scaled_adam import UNIT, scaled_adam

LARGEST_NORM = 10.0
"""Gradients are clipped to this norm."""
WARMUP, LAST_RATE = 0.05, 0.01
"""The share of the steps in which the rate rises; the last rate as a share of the largest one."""
TRIES, SLOWER = 3, 4.0
"""How often a reconstruction that made the network worse is tried again, each time this much slower."""
TESTED_IMAGES = 16


@dataclass(frozen=True)
class ReconstructionSettings:
    """The settings of a reconstruction.

    steps: of the optimiser (Adam). images: that a step averages over. rate: about the largest change of an
    output of a layer in a step, as a share of its size (see scaled_adam). It follows a cosine.
    blocks: the weight of the error of the blocks' outputs, against that of the network's outputs.
    flip: whether half of the batches are mirrored. seed: of the order of the images and of mirroring.
    Raises InputError for a number out of range.
    """

    steps: int = 200
    images: int = 8
    rate: float = 0.005
    blocks: float = 1.0
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for a number out of range."""
        for name in ("steps", "images"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"`{name}` of a reconstruction is {value!r}; at least 1 is expected")
        for name in ("rate", "blocks"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"`{name}` of a reconstruction is {value!r}; a number from 0 on is expected")


def reconstruct(
    network: nn.Module,
    dense: nn.Module,
    batches: Sequence[Tensor],
    weigh: Weigh,
    *,
    settings: ReconstructionSettings | None = None,
    tick: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train a pruned network in place to give what the dense one gives. Return the network.

    network, dense: of the same architecture, in evaluation mode, on the device of the batches. Zeros of a
    Conv2d stay exactly zero; all other parameters learn. batches: images [n, 3, height, width], as forward
    takes them. weigh: gives the weights of the squared errors of the outputs. tick: called after each step.
    The loss is that of the outputs (see imitation.outputs_error) plus that of the blocks. A result whose loss
    on some of the batches is not lower is discarded, and the reconstruction starts again at a quarter of the
    rate; after three, the network stays as it was.
    Raises InputError where there is no batch.
    """
    if not batches:
        raise InputError("a reconstruction needs images, but there are none; give some as `calibration`")
    settings = settings or ReconstructionSettings()
    imitation = _Imitation(network, dense, weigh, settings.blocks)
    start = copy.deepcopy(network.state_dict())
    tested = _some(batches, TESTED_IMAGES)
    before = imitation.measure(tested)
    for attempt in range(TRIES):
        _train(imitation, batches, settings, settings.rate / SLOWER**attempt, tick)
        if imitation.measure(tested) < before:  # False for nan
            break
        network.load_state_dict(start)
    return network.requires_grad_(False)


class _Imitation:
    """The loss of a network against the dense one, and the masks that the training keeps."""

    def __init__(self, network: nn.Module, dense: nn.Module, weigh: Weigh, blocks: float) -> None:
        self.network, self._dense, self._weigh, self._blocks = network, dense, weigh, blocks
        self.masks = [(conv.weight, conv.weight != 0) for _, conv in convolutions(network)]

    def loss(self, images: Tensor) -> Tensor:
        """Images [n, 3, height, width] -> the loss, a scalar."""
        with BlockOutputs(self._dense) as theirs, torch.no_grad():
            wanted, wanted_maps = every_output(self._dense)(images), theirs.take()
        with BlockOutputs(self.network) as ours:
            outputs, maps = every_output(self.network)(images), ours.take()
        loss = outputs_error(outputs, wanted, self._weigh(wanted))
        return loss + self._blocks * blocks_error(maps, wanted_maps)

    @torch.no_grad()
    def measure(self, batches: Sequence[Tensor]) -> float:
        """Return the mean loss of batches."""
        return sum(float(self.loss(batch)) for batch in batches) / len(batches)

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set the pruned weights to zero."""
        for weight, kept in self.masks:
            weight.mul_(kept)


def _train(
    imitation: _Imitation,
    batches: Sequence[Tensor],
    settings: ReconstructionSettings,
    rate: float,
    tick: Callable[[], None],
) -> None:
    parameters = list(imitation.network.requires_grad_(True).parameters())
    optimizer = scaled_adam(parameters, rate)
    stream = _stream(batches, settings)
    for step in range(settings.steps):
        group = next(stream)
        count = sum(map(len, group))
        with torch.enable_grad():
            for images in group:
                (imitation.loss(images) * (len(images) / count)).backward()
        for weight, kept in imitation.masks:
            if weight.grad is not None:
                weight.grad.mul_(kept)
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_NORM)
        for one in optimizer.param_groups:
            one["lr"] = rate * one[UNIT] * _share_of_rate((step + 1) / settings.steps)
        optimizer.step()
        optimizer.zero_grad()
        imitation.apply_masks()
        tick()
    imitation.network.requires_grad_(False)


def _share_of_rate(progress: float) -> float:
    """Return the rate as a share of the largest one; progress: of the steps, above 0 to 1."""
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return min(1.0, progress / WARMUP) * (LAST_RATE + (1 - LAST_RATE) * cosine)


def _stream(batches: Sequence[Tensor], settings: ReconstructionSettings) -> Iterator[list[Tensor]]:
    """Yield the batches of each step without end. Each pass has its own random order."""
    generator = torch.Generator().manual_seed(settings.seed)
    group: list[Tensor] = []
    while True:
        for number in torch.randperm(len(batches), generator=generator).tolist():
            mirrored = settings.flip and bool(torch.rand((), generator=generator) < 0.5)
            group.append(batches[number].flip(3) if mirrored else batches[number])
            if sum(map(len, group)) >= settings.images:
                yield group
                group = []


def _some(batches: Sequence[Tensor], images: int) -> list[Tensor]:
    """Return the first batches that hold this many images together, or all."""
    found: list[Tensor] = []
    for batch in batches:
        if sum(map(len, found)) >= images:
            break
        found.append(batch)
    return found
