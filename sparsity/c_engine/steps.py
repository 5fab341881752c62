"""Writes the layers and the steps of a plan as tables of C."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sparsity.c_engine.kernels import Tile, shift_function, tile_function, transpose_function
from sparsity.c_engine.plan import Filling, Plan, convolutions
from sparsity.c_engine.text import initialised, whole, words
from sparsity.c_engine.weights import Weights
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Moving, Pooling, Step
from sparsity.sparse_engine.layout import Cells, Place
from sparsity.sparse_engine.machine import GRIDS_OF

Fields = list[tuple[str, object]]


def layer_tables(graph: Graph, weights: Sequence[Weights]) -> str:
    """Return the arrays of all layers' weights, and the table of the layers."""
    steps, arrays, rows = convolutions(graph), [], []
    for index, (step, one) in enumerate(zip(steps, weights, strict=True)):
        arrays.append(_array("uint32_t", f"bias_{index}", len(step.bias), words(step.bias)))
        arrays.append(_array("uint32_t", f"values_{index}", len(one.values), words(one.values)))
        if one.taps is not None:
            arrays.append(_array("uint16_t", f"taps_{index}", len(one.taps), whole(one.taps)))
            arrays.append(_array("uint32_t", f"starts_{index}", len(one.starts), whole(one.starts)))
        arrays.append(f"static int32_t offsets_{index}[{max(1, one.offsets)}];\n")
        rows.append(f"    {initialised(_layer(index, step, one))}, /* {step.name} */")
    arrays += [
        _array("uint32_t", f"scales_{index}", len(scales), words(scales))
        for index, scales in enumerate(_scales(graph))
    ]
    table = ["static const struct layer layers[] = {", *rows, "};"]
    return "".join(arrays) + "\n" + "\n".join(table) + "\n"


def plan_tables(graph: Graph, plan: Plan, weights: Sequence[Weights]) -> str:
    """Return what a file holds for vectors of one width: sizes, kernels and the table of steps."""
    writer = _Steps(plan, [one.group for one in weights])
    rows = [f"    {initialised(fields)}," for fields in writer.rows(graph)]
    cells = [f"static int32_t cells_{i}[{count}];" for i, count in enumerate(writer.cells)]
    kernels = [tile_function(tile) for tile in dict.fromkeys(writer.tiles)]
    scratch = -(-plan.scratch // 16) * 16
    return "\n".join(
        [
            f"enum {{ ARENA = {max(1, plan.floats)}, SCRATCH = {scratch} }};\n",
            *kernels,
            shift_function(plan.lanes, writer.shifts),
            transpose_function(plan.lanes),
            *cells,
            "static const struct step steps[] = {",
            *rows,
            "};\n",
        ]
    )


@dataclass(eq=False)
class _Steps:
    """groups: of each layer, the outputs that are computed together."""

    plan: Plan
    groups: Sequence[int]
    tiles: list[Tile] = field(default_factory=list)
    shifts: list[tuple[int, int, int]] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    layers: int = 0

    def rows(self, graph: Graph) -> Iterator[Fields]:
        """Yield the fields of each step of the C code."""
        yield [("kind", "INPUT"), *self._shape(graph.image, 3), ("result", self._where(graph.image))]
        for step in self.plan.steps:
            yield self._row(step)
        begin = 0
        for one, depth in zip(graph.outputs, graph.depths, strict=True):
            cells, places = self._cells(one), ("cells", f"cells_{len(self.cells)}")
            shape, where = self._shape(one, depth), ("result", self._where(one))
            yield [("kind", "OUTPUT"), *shape, where, places, ("map", begin)]
            self.cells.append(cells.height * cells.width)
            begin += depth * cells.height * cells.width

    def _row(self, step: Step | Filling) -> Fields:
        if isinstance(step, Filling):
            place = self.plan.layout.places[step.source]
            self._shift(place.cells, place.halo)
            reach = ("reach", place.halo)
            shape = self._shape(step.source, step.source.channels)
            return [("kind", "HALO"), *shape, ("result", self._where(step.source)), reach]
        common = [
            *self._shape(step.result, step.result.channels),
            ("source", self._where(step.source)),
            ("result", self._where(step.result)),
        ]
        if isinstance(step, Convolution):
            return [("kind", "CONVOLVE"), *common, *self._convolution(step)]
        if isinstance(step, Moving):
            return [("kind", "MOVE"), *common, *_moving(step)]
        if isinstance(step, Pooling):
            reach = step.kernel // 2
            self._shift(self._cells(step.result), reach)
            return [("kind", "POOL"), *common, ("reach", reach)]
        return [("kind", "ATTEND"), *common, *self._attention(step)]

    def _convolution(self, step: Convolution) -> Fields:
        index, (rows, columns) = self.layers, self.plan.tiles[self.layers]
        self.layers += 1
        tile = Tile(rows, columns, step.stride, self.groups[index])
        self.tiles.append(tile)
        fields: Fields = [
            ("layer", f"layers + {index}"),
            ("tile", tile.name),
            ("tile_rows", rows),
            ("tile_columns", columns),
            ("stride", step.stride),
        ]
        if step.residual is not None:
            fields += [("adds", 1), ("residual", self._where(step.residual))]
        return fields

    def _attention(self, step: Attention) -> Fields:
        cells, index = self._cells(step.result), len(self.cells)
        self.cells.append(2 * cells.height * cells.width)
        sizes = [("heads", step.heads), ("keys", step.keys), ("values", step.values), ("areas", step.areas)]
        return [*sizes, ("scales", f"scales_{index}"), ("cells", f"cells_{index}")]

    def _shape(self, one: Map, channels: int) -> Fields:
        cells = self._cells(one)
        return [
            ("channels", channels),
            ("height", cells.height),
            ("width", cells.width),
            ("rows", cells.rows),
            ("columns", cells.columns),
            ("across", cells.grid[1]),
            ("grid", GRIDS_OF[self.plan.lanes].index(cells.grid)),
        ]

    def _cells(self, one: Map) -> Cells:
        return self.plan.layout.places[one].cells

    def _where(self, one: Map) -> str:
        place: Place = self.plan.layout.places[one]
        return f"{{{place.offset}, {place.pitch}, {place.plane}}}"

    def _shift(self, cells: Cells, reach: int) -> None:
        """Note the shifts that a halo of this reach needs."""
        grid = GRIDS_OF[self.plan.lanes].index(cells.grid)
        sides = (
            range(-reach // side, (side + reach - 1) // side + 1) for side in (cells.rows, cells.columns)
        )
        downs, rights = map(list, sides)
        self.shifts += [(grid, down, right) for down in downs for right in rights if down or right]


def _moving(step: Moving) -> Fields:
    return [("step", step.step), ("shift", step.shift), ("row", step.row), ("column", step.column)]


def _layer(index: int, step: Convolution, weights: Weights) -> Fields:
    outputs, per_group, kernel = step.weight.shape[:3]
    listed = weights.taps is not None
    return [
        ("outputs", outputs),
        ("per_group", per_group),
        ("groups", step.groups),
        ("kernel", kernel),
        ("dilation", step.dilation),
        ("padding", step.padding),
        ("activation", step.activation.name),
        ("group", weights.group),
        ("block", weights.block),
        ("blocks", weights.blocks),
        ("slope", f"{np.float32(step.slope).item()!r}f" if step.slope else None),
        ("bias", f"bias_{index}"),
        ("values", f"values_{index}"),
        ("starts", f"starts_{index}" if listed else None),
        ("taps", f"taps_{index}" if listed else None),
        ("offsets", f"offsets_{index}"),
    ]


def _scales(graph: Graph) -> list[np.ndarray]:
    found = [step for step in graph.steps if isinstance(step, Attention)]
    return [np.concatenate([step.key_scales, step.value_scales]) for step in found]


def _array(kind: str, name: str, count: int, elements: str) -> str:
    """Return the definition of an array. C has no arrays of length 0: an empty one gets a 0."""
    return f"static const {kind} {name}[{max(1, count)}] = {{\n{elements if count else '    0'}}};\n"
