"""Measures the values of a network's feature maps on images, for numbers of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from sparsity.sparse_engine.graph import Map
from sparsity.sparse_engine.reading import Traced


@dataclass
class Range:
    """The smallest, the largest and the mean value of each channel of a map: float32 [channels]."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray

    def ordered(self, channels: np.ndarray) -> Range:
        """Return the range of a map that has these channels."""
        return Range(self.low[channels], self.high[channels], self.mean[channels])


def measure_ranges(traced: Traced, batches: Sequence[Tensor]) -> dict[Map, Range]:
    """Return the range of each map that is the value of an operation, on images [n, 3, height, width]."""
    # The last operation on a map completes it: an activation or an addition comes after the convolution.
    last = {one: node for node, one in traced.nodes.items()}
    module = fx.GraphModule(traced.network, traced.operations)
    recorder = _Recorder(module, {node: one for one, node in last.items()})
    with torch.inference_mode():
        for batch in batches:
            recorder.run(batch)
    found = recorder.ranges(sum(map(len, batches)))
    return found | {one: found[one].ordered(order) for one, order in traced.orders.items()}


class _Recorder(fx.Interpreter):
    """Runs a traced network, and keeps the ranges of some nodes' values."""

    def __init__(self, module: fx.GraphModule, maps: Mapping[fx.Node, Map]) -> None:
        super().__init__(module)
        self._maps = maps
        self._found: dict[Map, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._maps:
            low, high = value.amin((0, 2, 3)), value.amax((0, 2, 3))
            total = value.mean((2, 3)).sum(0)
            before = self._found.get(self._maps[n])
            if before is not None:
                low, high = torch.minimum(low, before[0]), torch.maximum(high, before[1])
                total = total + before[2]
            self._found[self._maps[n]] = [low, high, total]
        return value

    def ranges(self, images: int) -> dict[Map, Range]:
        """Return the ranges. images: how many were run."""
        return {
            one: Range(low.numpy(), high.numpy(), (total / images).numpy())
            for one, (low, high, total) in self._found.items()
        }
