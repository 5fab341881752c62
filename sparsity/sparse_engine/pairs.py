"""Turns a graph in float32 into one whose maps hold pairs of channels in bfloat16.

A pair is the two bfloat16 numbers of channels 2 i and 2 i + 1, in the low and the high half of 32 bits. A
pair takes the place of one float32 channel, so that places, moves and halos are the same for both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from sparsity.base.errors import InputError
from sparsity.sparse_engine.graph import Convolution, Graph, Map, Step, maps_in, maps_of


def pair_channels(graph: Graph) -> Graph:
    """Return the graph with pairs of channels. The raw maps stay float32.

    A map whose number of channels is odd gets one more, which is 0.
    Raises InputError where a raw map holds anything but the results of convolutions, or is also read.
    """
    positions = _positions(graph)
    _check_outputs(graph, positions)
    pairing = _Pairing(positions, frozenset(graph.outputs), {})
    steps = tuple(pairing.step(step) for step in graph.steps)
    outputs = tuple(pairing.map(one) for one in graph.outputs)
    return replace(graph, image=pairing.map(graph.image), steps=steps, outputs=outputs, paired=True)


def pack(weight: np.ndarray) -> np.ndarray:
    """Return float32 weights [outputs, 2 n, k, k] as int32 [outputs, n, k, k]: pairs in bfloat16."""
    halves = torch.from_numpy(np.ascontiguousarray(weight)).bfloat16().view(torch.int16).numpy()
    low, high = halves[:, 0::2].view(np.uint16).astype(np.uint32), halves[:, 1::2].view(np.uint16)
    return (low | high.astype(np.uint32) << 16).view(np.int32)


@dataclass(frozen=True)
class _Pairing:
    """positions: of each channel of the outermost maps, in halves. single: maps that stay float32."""

    positions: Mapping[Map, np.ndarray]
    single: frozenset[Map]
    made: dict[Map, Map]

    def map(self, one: Map) -> Map:
        """Return the map of pairs of a map."""
        if one not in self.made:
            home, _ = one.home()
            each = 1 if home in self.single else 2
            made = Map(len(self._padded(one)) // each, one.shrink)
            if home is not one:
                made.inside = self.map(home), int(self._halves(one)[0]) // each
            self.made[one] = made
        return self.made[one]

    def step(self, step: Step) -> Step:
        """Return the step on maps of pairs."""
        source, result = self.map(step.source), self.map(step.result)
        if not isinstance(step, Convolution):
            return replace(step, source=source, result=result)
        residual = None if step.residual is None else self.map(step.residual)
        weight, bias = self._weight(step)
        return replace(
            step, source=source, result=result, residual=residual, weight=weight, bias=bias, groups=1
        )

    def _weight(self, step: Convolution) -> tuple[np.ndarray, np.ndarray]:
        """Return the packed weights, of all inputs for each output, and the biases."""
        outputs, per_group, *kernel = step.weight.shape
        inputs, results = self._padded(step.source), self._padded(step.result)
        columns, rows = (np.flatnonzero(one >= 0) for one in (inputs, results))
        whole = np.zeros((len(results), len(inputs), *kernel), np.float32)
        each = outputs // step.groups
        for group in range(step.groups):
            mine = rows[group * each : (group + 1) * each]
            read = columns[group * per_group : (group + 1) * per_group]
            whole[np.ix_(mine, read)] = step.weight[group * each : (group + 1) * each]
        bias = np.zeros(len(results), np.float32)
        bias[rows] = step.bias
        return pack(whole), bias

    def _halves(self, one: Map) -> np.ndarray:
        home, first = one.home()
        return self.positions[home][first : first + one.channels]

    def _padded(self, one: Map) -> np.ndarray:
        """Return the channel in each half of a map's pairs, -1 where there is none."""
        halves = self._halves(one)
        halves = halves - halves[0]
        channels = np.full((int(halves[-1]) // 2 + 1) * 2, -1)
        channels[halves] = np.arange(one.channels)
        return channels


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
            "the sparse engine computes in bfloat16 only where the outputs of the network are those of "
            "convolutions, which no other layer reads; use `engine` sparse or torch"
        )


def _positions(graph: Graph) -> dict[Map, np.ndarray]:
    """Return where each channel of each outermost map goes, in halves.

    Every map inside begins with a new pair, so that a step never writes half of a pair.
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
            begin += last - first + (last - first) % 2
        positions[home] = np.concatenate(parts)
    return positions
