"""The rows by which the families' yaml tells an architecture, where that can tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sparsity.yolo.parts import concat, conv, sppf, upsample
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

WIDTH_STEP = 8
"""The channels of a row are rounded up to a multiple of it."""

Row: TypeAlias = list[Any]
"""[from, number, name, arguments]"""
Told: TypeAlias = tuple[ModuleSpec, int, str, list[Any]]
"""What a row gives, and the row without its from."""
Tell: TypeAlias = Callable[[ModuleSpec], Told]
"""A module -> what the row nearest to it gives."""


def tell_rows(architecture: Architecture, tell: Mapping[str, Tell]) -> dict[str, list[Row]]:
    """The yaml's backbone and head: true channels and repeats, so both multiples are 1.

    tell: by the kind of a layer. Where no row gives a layer (its channels are irregular, it is of another
    release), both are left out: with rows that are near it another network would be built.
    """
    rows = [_row(layer, tell) for layer in architecture]
    if None in rows:
        return {}
    names = [row[2] for row in rows]
    neck = names.index("SPPF") + 1 if "SPPF" in names else len(rows) - 1
    return {"backbone": rows[:neck], "head": rows[neck:]}


def _row(layer: Layer, tell: Mapping[str, Tell]) -> Row | None:
    """The row that gives exactly this layer, or None."""
    spec, sources = layer.module, list(layer.sources)
    if spec.kind not in tell:
        return None
    given, *row = tell[spec.kind](spec)
    if _bare(given) != _bare(spec) or width(spec) % WIDTH_STEP:
        return None
    is_head = row[1] == "Detect"
    return [sources if is_head or len(sources) > 1 else sources[0], *row]


def _tell_conv(spec: ModuleSpec) -> Told:
    c1, c2, k, s, p = sizes(spec)
    arguments = [c2, k, s] if p == k // 2 else [c2, k, s, p]
    return conv(c1, c2, k, s, p), 1, "Conv", arguments


def _tell_sppf(spec: ModuleSpec) -> Told:
    c1, c2, k = sizes(spec.children["cv1"])[0], width(spec), spec.children["m"].attributes["kernel_size"]
    return sppf(c1, c2, k), 1, "SPPF", [c2, k]


SHARED: Mapping[str, Tell] = {
    "Conv": _tell_conv,
    "SPPF": _tell_sppf,
    "Upsample": lambda _: (upsample(), 1, "nn.Upsample", ["None", 2, "nearest"]),
    "Concat": lambda _: (concat(), 1, "Concat", [1]),
}
"""Of the kinds that the families have in common."""


def sizes(spec: ModuleSpec) -> tuple[int, int, int, int, int]:
    """A Conv's channels in and out, kernel size, stride and padding, of the height."""
    inner = spec.children["conv"].attributes
    sizes = (inner[name] for name in ("kernel_size", "stride", "padding"))
    heights = (size[0] if isinstance(size, tuple) else size for size in sizes)
    return inner["in_channels"], inner["out_channels"], *heights


def width(spec: ModuleSpec) -> int:
    """The channels that a layer gives, as the row names them; 0 where it names none."""
    if spec.kind == "Conv":
        return sizes(spec)[1]
    return next((width(spec.children[last]) for last in ("cv3", "cv2") if last in spec.children), 0)


def _bare(spec: ModuleSpec) -> ModuleSpec:
    """Without what fusing changes."""
    attributes = {name: value for name, value in spec.attributes.items() if name != "bias"}
    children = {name: _bare(child) for name, child in spec.children.items() if child.kind != "BatchNorm2d"}
    return ModuleSpec(spec.kind, attributes, children)
