"""Turns a graph in float32 into one whose maps are packed: several channels share each 32-bit number.

A number takes the place of one float32 channel, so that places, moves and halos are the same for all
packings. Channel i of a map is part i % share of number i // share; the first part is in the lowest bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from sparsity.base.errors import InputError
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Step, maps_in, maps_of
from sparsity.sparse_engine.packing import BFLOAT16, Packing

Encode = Callable[[Convolution, np.ndarray, np.ndarray, np.ndarray], Convolution]
"""A step, its weights [outputs, inputs, k, k], the channel of each of these inputs, [outputs, inputs] or [1,
inputs], and that of each output, -1 for those that were added -> the step with packed weights."""


def pack_halves(graph: Graph) -> Graph:
    """Return the graph with pairs of channels in bfloat16. Raises InputError where pack_channels does."""

    def encode(
        step: Convolution, weight: np.ndarray, _inputs: np.ndarray, outputs: np.ndarray
    ) -> Convolution:
        # A pruned weight can be -0, whose bits are not 0: + 0.0 makes it 0, so that its pair is skipped.
        halves = (torch.from_numpy(weight).bfloat16() + 0.0).view(torch.int16).numpy()
        packed = pack_numbers(halves.view(np.uint16), BFLOAT16)
        return replace(step, weight=packed, bias=spread(step.bias, outputs))

    return pack_channels(graph, BFLOAT16, encode)


def pack_channels(graph: Graph, packing: Packing, encode: Encode) -> Graph:
    """Return the graph with packed maps. The raw maps stay float32.

    A map whose channels do not fill its last number gets some more, which are 0.
    Raises InputError where a raw map holds anything but the results of convolutions, or is also read, and
    where the channels of a head of attention do not fill whole numbers.
    """
    positions = _positions(graph, packing.share)
    _check_outputs(graph, positions)
    packer = _Packer(positions, frozenset(graph.outputs), packing, encode, {})
    steps = tuple(packer.step(step) for step in graph.steps)
    outputs = tuple(packer.map(one) for one in graph.outputs)
    return replace(graph, image=packer.map(graph.image), steps=steps, outputs=outputs, packing=packing)


def pack_numbers(parts: np.ndarray, packing: Packing) -> np.ndarray:
    """Return unsigned [outputs, n x share, k, k] as numbers of an arena, [outputs, n, k, k]."""
    bits = 32 // packing.share
    shifted = [parts[:, i :: packing.share].astype(np.uint32) << bits * i for i in range(packing.share)]
    return np.bitwise_or.reduce(shifted).view(packing.arena)


def spread(numbers: np.ndarray, channels: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Return the number of each channel, float32; fill where the channel is -1."""
    return np.where(channels >= 0, numbers[channels], np.float32(fill)).astype(np.float32)


@dataclass(frozen=True)
class _Packer:
    """positions: where each channel of the outermost maps goes. single: maps that stay float32."""

    positions: Mapping[Map, np.ndarray]
    single: frozenset[Map]
    packing: Packing
    encode: Encode
    made: dict[Map, Map]

    def map(self, one: Map) -> Map:
        """Return the packed map of a map."""
        if one not in self.made:
            home, _ = one.home()
            each = 1 if home in self.single else self.packing.share
            made = Map(len(self._channels(one)) // each, one.shrink)
            if home is not one:
                made.inside = self.map(home), int(self._places(one)[0]) // each
            self.made[one] = made
        return self.made[one]

    def step(self, step: Step) -> Step:
        """Return the step on packed maps."""
        source, result = self.map(step.source), self.map(step.result)
        if isinstance(step, Attention):
            _check_heads(step, self.packing)
        if not isinstance(step, Convolution):
            return replace(step, source=source, result=result)
        residual = None if step.residual is None else self.map(step.residual)
        inputs, outputs = self._channels(step.source), self._channels(step.result)
        if _is_depthwise(step) and np.array_equal(inputs, outputs):
            weight, inputs = _side_by_side(step, outputs, self.packing.share)
            groups = len(outputs) // self.packing.share
        else:
            weight, inputs, groups = _whole(step, inputs, outputs), inputs[None], 1
        encoded = self.encode(step, weight, inputs, outputs)
        return replace(
            encoded, source=source, result=result, residual=residual, groups=groups, packing=self.packing
        )

    def _places(self, one: Map) -> np.ndarray:
        home, first = one.home()
        return self.positions[home][first : first + one.channels]

    def _channels(self, one: Map) -> np.ndarray:
        """Return the channel at each place of a map, -1 where there is none."""
        places = self._places(one)
        places = places - places[0]
        channels = np.full(-(-(int(places[-1]) + 1) // self.packing.share) * self.packing.share, -1)
        channels[places] = np.arange(one.channels)
        return channels


def _is_depthwise(step: Convolution) -> bool:
    return step.weight.shape[1] == 1 and step.groups == len(step.weight)


def _side_by_side(step: Convolution, outputs: np.ndarray, share: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of a depthwise convolution for the inputs that share a number with the output.

    outputs: the channel of each output, and of each input. Returns float32 [outputs, share, k, k], with zeros
    for all inputs but one; and the channel of each input, [outputs, share].
    """
    weight = np.zeros((len(outputs), share, *step.weight.shape[2:]), np.float32)
    places = np.flatnonzero(outputs >= 0)
    weight[places, places % share] = step.weight[outputs[places], 0]
    return weight, outputs.reshape(-1, share).repeat(share, 0)


def _whole(step: Convolution, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the weights of all inputs for each output, float32, with zeros for added channels."""
    count, per_group, *kernel = step.weight.shape
    columns, rows = (np.flatnonzero(one >= 0) for one in (inputs, outputs))
    whole = np.zeros((len(outputs), len(inputs), *kernel), np.float32)
    each = count // step.groups
    for group in range(step.groups):
        mine, read = (
            some[group * size : (group + 1) * size] for some, size in ((rows, each), (columns, per_group))
        )
        whole[np.ix_(mine, read)] = step.weight[group * each : (group + 1) * each]
    return whole


def _check_heads(step: Attention, packing: Packing) -> None:
    if step.keys % packing.share or step.values % packing.share:
        raise InputError(
            f"the sparse engine in {packing.name} needs heads of attention with multiples of {packing.share} "
            f"channels, and this network has {step.keys} and {step.values}; use `engine` sparse or torch"
        )


def _check_outputs(graph: Graph, positions: Mapping[Map, np.ndarray]) -> None:
    """Check that the raw maps are written by convolutions only, without gaps, and read by no step."""
    outputs = set(graph.outputs)
    whole = [one for one in outputs if one.inside is None]
    fitting = all(np.array_equal(positions[one], np.arange(one.channels)) for one in whole)
    for step in graph.steps:
        plain = isinstance(step, Convolution) and step.residual is None
        for one in maps_in(step):
            fitting &= one.home()[0] not in outputs or (plain and one is step.result)
    if not fitting or len(whole) < len(outputs):
        raise InputError(
            "the sparse engine packs channels only where the outputs of the network are those of "
            "convolutions, which no other layer reads; use `engine` sparse or torch"
        )


def _positions(graph: Graph, share: int) -> dict[Map, np.ndarray]:
    """Return where each channel of each outermost map goes.

    Every map inside begins with a new number, so that a step never writes part of a number.
    """
    cuts: dict[Map, set[int]] = {}
    for one in maps_of(graph):
        home, first = one.home()
        cuts.setdefault(home, {0, home.channels}).update((first, first + one.channels))
    positions = {}
    for home, borders in cuts.items():
        parts, begin = [], 0
        for first, last in pairwise(sorted(borders)):
            parts.append(np.arange(begin, begin + last - first))
            begin += -(-(last - first) // share) * share
        positions[home] = np.concatenate(parts)
    return positions
