"""A network as steps: convolutions, moves, poolings and attention, and the maps that they read and write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sparsity.sparse_engine.operations import Activation
from sparsity.sparse_engine.packing import FLOAT32, Packing


@dataclass(eq=False)
class Map:
    """A feature map.

    shrink: the stride, in pixels of the image per cell. ready: the number of steps after which the map is
    complete. inside: the map that contains this map's channels, and the index of the first one in it.
    """

    channels: int
    shrink: int
    ready: int = 0
    inside: tuple[Map, int] | None = None

    def home(self) -> tuple[Map, int]:
        """Return the outermost map that contains this one, and this map's first channel in it."""
        if self.inside is None:
            return self, 0
        outer, first = self.inside
        home, offset = outer.home()
        return home, offset + first


@dataclass(eq=False)
class Convolution:
    """A convolution, followed by an activation, followed by the addition of a residual.

    weight: float32 [outputs, inputs / groups, k, k]; in a packed graph, the type of the arena (see packing).
    bias: float32 [outputs]; for int8, the bits of int32.
    scales: for int8, float32 [3, outputs], else [0, outputs]: what a sum stands for; what a result is
    multiplied with to make a byte; what a byte of the residual stands for.
    slope: the negative slope of LeakyReLU. residual: the map to add, or None.
    """

    name: str
    source: Map
    result: Map
    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    activation: Activation = Activation.NONE
    slope: float = 0.0
    residual: Map | None = None

    packing: Packing = FLOAT32
    scales: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def shared(self) -> int:
        """How many outputs share a number of the result: 1 for raw maps, which are float32."""
        return len(self.weight) // self.result.channels

    @property
    def reach(self) -> int:
        """How many cells the kernel extends beyond the map's edge, at most."""
        extent = self.dilation * (self.weight.shape[2] - 1) + 1
        return max(self.padding, extent - self.padding - self.stride)


@dataclass(eq=False)
class Moving:
    """Copies cells. The result's cell (y, x) is the source's cell at row (y * step >> shift) + row and
    column (x * step >> shift) + column.
    """

    source: Map
    result: Map
    step: int = 1
    shift: int = 0
    row: int = 0
    column: int = 0


@dataclass(eq=False)
class Pooling:
    """Max pooling over the kernel x kernel cells around each cell, with stride 1."""

    source: Map
    result: Map
    kernel: int


@dataclass(eq=False)
class Attention:
    """Self-attention between the cells of a map, in several heads (see yolo.attention).

    source: the queries of all heads, then their keys, then their values. result: the weighted sums.
    keys: channels of a head's queries, and of its keys. values: channels of its values.
    areas: the cells, row by row, are cut into this many runs of equal length, which do not attend to others.
    key_scales: float32 [heads x keys], what products of queries and keys are multiplied with.
    value_scales: float32 [heads x values], what sums are multiplied with.
    """

    source: Map
    result: Map
    heads: int
    keys: int
    values: int
    areas: int
    key_scales: np.ndarray
    value_scales: np.ndarray


Step: TypeAlias = "Convolution | Moving | Pooling | Attention"


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as steps.

    image: the input map. steps: in execution order. outputs: the raw maps. largest: the network's largest
    stride. depths: the number of channels of each raw map; a packed map can hold some more.
    packing: of all maps but the raw maps, which are float32. pixel: what a pixel is multiplied with.
    """

    image: Map
    steps: tuple[Step, ...]
    outputs: tuple[Map, ...]
    largest: int
    depths: tuple[int, ...]
    packing: Packing = FLOAT32
    pixel: float = 1.0


def maps_in(step: Step) -> list[Map]:
    """Return the maps that a step reads or writes."""
    residual = step.residual if isinstance(step, Convolution) else None
    return [step.source, step.result] if residual is None else [step.source, step.result, residual]


def maps_of(graph: Graph) -> list[Map]:
    """Return all maps that the image, the steps and the outputs name, each once."""
    named = [one for step in graph.steps for one in maps_in(step)]
    return list(dict.fromkeys([graph.image, *named, *graph.outputs]))
