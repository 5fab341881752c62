"""Turns a graph in float32 into one with maps and weights of 8 bits, four channels in each 32-bit number.

The bytes of a channel stand for (byte - ZERO_POINT) x its scale. Scales of input channels are multiplied
into the weights, so that parts of a concatenation need not agree. Weights are signed, with a scale for each
output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, maps_of
from sparsity.sparse_engine.packed_graph import pack_channels, pack_numbers, spread
from sparsity.sparse_engine.packing import INT8, LARGEST, ZERO_POINT
from sparsity.sparse_engine.ranges import Range, measure_ranges
from sparsity.sparse_engine.reading import Traced

LARGEST_WEIGHT, LARGEST_BIAS = 127, 2**28
EVENNESS = 0.75
"""How far the scales of a layer's channels follow their ranges: 0 is one scale for all, 1 is each its own.
Between them, neither the bytes of small channels nor the weights of large ones are rounded too coarsely."""
TINIEST = 1e-12


def quantize(traced: Traced, batches: Sequence[Tensor]) -> Graph:
    """Return the graph of a network with maps and weights of 8 bits. The raw maps stay float32.

    batches: images [n, 3, height, width], RGB in 0 to 1; the ranges of the maps on them set the scales.
    Biases compensate for the change in the mean outputs.
    Raises InputError where pack_channels does, or without images.

    Source: Jacob et al., arXiv:1712.05877; bias correction and scales of channels: Nagel et al.,
    arXiv:1906.04721.
    """
    if not batches:
        raise InputError("int8 needs images; give some as `calibration` (no labels needed)")
    return quantize_by(traced.graph, measure_ranges(traced, batches))


def quantize_by(graph: Graph, ranges: Mapping[Map, Range]) -> Graph:
    """Return the graph with maps and weights of 8 bits, given the range of each map (see quantize)."""
    quantizer = _Quantizer(ranges, _scales(graph, ranges))
    image = quantizer.scales_of(graph.image)
    steps = tuple(quantizer.attend(one) if isinstance(one, Attention) else one for one in graph.steps)
    packed = pack_channels(replace(graph, steps=steps), INT8, quantizer.encode)
    return replace(packed, pixel=1 / float(image[0]))


@dataclass(frozen=True)
class _Quantizer:
    """scales: of each channel of the outermost maps."""

    ranges: Mapping[Map, Range]
    scales: Mapping[Map, np.ndarray]

    def scales_of(self, one: Map) -> np.ndarray:
        """Return the scale of each channel of a map."""
        home, first = one.home()
        return self.scales[home][first : first + one.channels]

    def encode(
        self, step: Convolution, weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray
    ) -> Convolution:
        """Return the step with weights of 8 bits, biases in units of the sums, and scales."""
        scaled = weight * spread(self.scales_of(step.source), inputs)[..., None, None]
        given = spread(step.bias, outputs)
        # A bias must fit beside the products, and where there are none it must not be rounded away.
        unit = np.maximum(np.abs(scaled).max((1, 2, 3)) / LARGEST_WEIGHT, np.abs(given) / LARGEST_BIAS)
        unit = np.maximum(unit, TINIEST).astype(np.float32)
        whole = np.rint(scaled / unit[:, None, None, None])
        lost = (scaled - whole * unit[:, None, None, None]).sum((2, 3)) * self._mean_bytes(step, inputs)
        lost = lost.sum(1)
        bias = (given + lost) / unit - ZERO_POINT * whole.sum((1, 2, 3))
        bits = np.rint(np.clip(bias, -2 * LARGEST_BIAS, 2 * LARGEST_BIAS)).astype(np.int32).view(np.float32)
        results = spread(self.scales_of(step.result), outputs, 1.0)
        added = results if step.residual is None else spread(self.scales_of(step.residual), outputs)
        return replace(
            step,
            weight=pack_numbers(whole.astype(np.int8).view(np.uint8), INT8),
            bias=bits,
            scales=np.stack([unit, 1 / results, added]).astype(np.float32),
        )

    def attend(self, step: Attention) -> Attention:
        """Return the step with the scales of bytes multiplied into its own."""
        keys = step.heads * step.keys
        queries, others, values = np.split(self.scales_of(step.source), [keys, 2 * keys])
        return replace(
            step,
            key_scales=step.key_scales * queries * others,
            value_scales=step.value_scales * values / self.scales_of(step.result),
        )

    def _mean_bytes(self, step: Convolution, inputs: np.ndarray) -> np.ndarray:
        """Return the mean of each input channel, in units of its scale."""
        found = self.ranges.get(step.source)
        mean = np.zeros(step.source.channels) if found is None else found.mean
        return spread((mean / self.scales_of(step.source)).astype(np.float32), inputs)


def _scales(graph: Graph, ranges: Mapping[Map, Range]) -> dict[Map, np.ndarray]:
    """Return the scale of each channel of the outermost maps. Steps that copy numbers keep the scale."""
    scales: dict[Map, np.ndarray] = {}
    for one in maps_of(graph):
        home = one.home()[0]
        scales.setdefault(home, np.ones(home.channels, np.float32))

    def view(one: Map) -> np.ndarray:
        home, first = one.home()
        return scales[home][first : first + one.channels]

    view(graph.image)[:] = _scale(ranges[graph.image]).max()
    for step in graph.steps:
        if not isinstance(step, Convolution | Attention):
            view(step.result)[:] = view(step.source)
        elif step.result in ranges:
            view(step.result)[:] = _scale(ranges[step.result])
    return scales


def _scale(found: Range) -> np.ndarray:
    above, below = found.high / (LARGEST - ZERO_POINT), -found.low / ZERO_POINT
    own = np.maximum(np.maximum(above, below), TINIEST)
    return (own.max() ** (1 - EVENNESS) * own**EVENNESS).astype(np.float32)
