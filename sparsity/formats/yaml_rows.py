"""The rows that describe an architecture in the families' yaml, if rows can describe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sparsity.yolo.parts import concat, conv, sppf, upsample
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

WIDTH_STEP = 8
"""The channels of a row are rounded up to a multiple of it."""

Row: TypeAlias = list[Any]
"""[from, number, name, arguments]"""
Described: TypeAlias = tuple[ModuleSpec, int, str, list[Any]]
"""The module that a row builds, and the row without its from."""
Describe: TypeAlias = Callable[[ModuleSpec], Described]
"""A module -> what its nearest row builds, and this row."""


def describe_rows(architecture: Architecture, describers: Mapping[str, Describe]) -> dict[str, list[Row]]:
    """Return the yaml's backbone and head, with actual channels and repeats, so both multiples are 1.

    describers: kind of a layer -> its Describe. If no row builds a layer exactly (its channels are irregular,
    or it is of another release), both are left out: similar rows would build another network.
    """
    rows = [_row(layer, describers) for layer in architecture]
    if None in rows:
        return {}
    names = [row[2] for row in rows]
    neck = names.index("SPPF") + 1 if "SPPF" in names else len(rows) - 1
    return {"backbone": rows[:neck], "head": rows[neck:]}


def _row(layer: Layer, describers: Mapping[str, Describe]) -> Row | None:
    """Return the row that builds exactly this layer, or None."""
    spec, sources = layer.module, list(layer.sources)
    if spec.kind not in describers or width(spec) % WIDTH_STEP:
        return None
    try:
        given, *row = describers[spec.kind](spec)
    except (ArithmeticError, LookupError):
        # It lacks a part that all modules built from rows have, or has no channels for it.
        return None
    if _bare(given) != _bare(spec):
        return None
    is_head = row[1] == "Detect"
    return [sources if is_head or len(sources) > 1 else sources[0], *row]


def _describe_conv(spec: ModuleSpec) -> Described:
    c1, c2, k, s, p = sizes(spec)
    arguments = [c2, k, s] if p == k // 2 else [c2, k, s, p]
    return conv(c1, c2, k, s, p), 1, "Conv", arguments


def _describe_sppf(spec: ModuleSpec) -> Described:
    c1, c2, k = sizes(spec.children["cv1"])[0], width(spec), spec.children["m"].attributes["kernel_size"]
    return sppf(c1, c2, k), 1, "SPPF", [c2, k]


SHARED: Mapping[str, Describe] = {
    "Conv": _describe_conv,
    "SPPF": _describe_sppf,
    "Upsample": lambda _: (upsample(), 1, "nn.Upsample", ["None", 2, "nearest"]),
    "Concat": lambda _: (concat(), 1, "Concat", [1]),
}
"""For the kinds that the families have in common."""


def sizes(spec: ModuleSpec) -> tuple[int, int, int, int, int]:
    """Return a Conv's channels in and out, and its kernel size, stride and padding along the height."""
    inner = spec.children["conv"].attributes
    sizes = (inner[name] for name in ("kernel_size", "stride", "padding"))
    heights = (size[0] if isinstance(size, tuple) else size for size in sizes)
    return inner["in_channels"], inner["out_channels"], *heights


def width(spec: ModuleSpec) -> int:
    """Return the output channels of a layer, as its row names them; 0 if the row names none."""
    if spec.kind == "Conv":
        return sizes(spec)[1]
    return next((width(spec.children[last]) for last in ("cv3", "cv2") if last in spec.children), 0)


def _bare(spec: ModuleSpec) -> ModuleSpec:
    """Return the module without what fusing changes."""
    attributes = {name: value for name, value in spec.attributes.items() if name != "bias"}
    children = {name: _bare(child) for name, child in spec.children.items() if child.kind != "BatchNorm2d"}
    return ModuleSpec(spec.kind, attributes, children)
