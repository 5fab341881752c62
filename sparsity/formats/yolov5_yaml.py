"""An architecture as YOLOv5's yaml tells it, where that can tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from sparsity.yolo.architectures import c3, concat, conv, sppf, upsample
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

WIDTH_STEP = 8
"""YOLOv5 rounds the channels of a row up to a multiple of it."""

Row: TypeAlias = list[Any]
"""[from, number, name, arguments]"""
Told: TypeAlias = tuple[ModuleSpec, int, str, list[Any]]
"""What a row gives, and the row without its from."""


def describe(architecture: Architecture, anchors: Tensor) -> dict[str, Any]:
    """The yaml's dict: true channels and repeats, so both multiples are 1.

    anchors: [levels, na, 2], in pixels. Where no row gives a layer (its channels are irregular, it is of
    an older release), backbone and head are left out: with rows that are near it another network would
    be built.
    """
    described = {
        **{"nc": architecture[-1].module.attributes["nc"], "ch": 3},
        **{"depth_multiple": 1.0, "width_multiple": 1.0, "anchors": anchors.flatten(1).tolist()},
    }
    rows = [_row(layer) for layer in architecture]
    if None in rows:
        return described
    names = [row[2] for row in rows]
    neck = names.index("SPPF") + 1 if "SPPF" in names else len(rows) - 1
    return described | {"backbone": rows[:neck], "head": rows[neck:]}


def _row(layer: Layer) -> Row | None:
    """The row that gives exactly this layer, or None."""
    spec, sources = layer.module, list(layer.sources)
    if spec.kind == "Detect":
        return [sources, 1, "Detect", ["nc", "anchors"]]
    if spec.kind not in _TELL:
        return None
    given, *row = _TELL[spec.kind](spec)
    if _bare(given) != _bare(spec) or _width(spec) % WIDTH_STEP:
        return None
    return [sources if len(sources) > 1 else sources[0], *row]


def _tell_conv(spec: ModuleSpec) -> Told:
    c1, c2, k, s, p = _sizes(spec)
    arguments = [c2, k, s] if p == k // 2 else [c2, k, s, p]
    return conv(c1, c2, k, s, p), 1, "Conv", arguments


def _tell_c3(spec: ModuleSpec) -> Told:
    blocks = spec.children["m"].children
    shortcut = all(block.attributes.get("add", True) for block in blocks.values())
    c1, c2 = _sizes(spec.children["cv1"])[0], _width(spec)
    n = max(1, len(blocks))
    return c3(c1, c2, n, shortcut), n, "C3", [c2] if shortcut else [c2, False]


def _tell_sppf(spec: ModuleSpec) -> Told:
    c1, c2, k = _sizes(spec.children["cv1"])[0], _width(spec), spec.children["m"].attributes["kernel_size"]
    return sppf(c1, c2, k), 1, "SPPF", [c2, k]


_TELL: dict[str, Callable[[ModuleSpec], Told]] = {
    "Conv": _tell_conv,
    "C3": _tell_c3,
    "SPPF": _tell_sppf,
    "Upsample": lambda _: (upsample(), 1, "nn.Upsample", ["None", 2, "nearest"]),
    "Concat": lambda _: (concat(), 1, "Concat", [1]),
}
"""Kind -> what the row nearest to a module of it gives."""


def _sizes(spec: ModuleSpec) -> tuple[int, int, int, int, int]:
    """A Conv's channels in and out, kernel size, stride and padding, of the height."""
    inner = spec.children["conv"].attributes
    sizes = (inner[name] for name in ("kernel_size", "stride", "padding"))
    heights = (size[0] if isinstance(size, tuple) else size for size in sizes)
    return inner["in_channels"], inner["out_channels"], *heights


def _width(spec: ModuleSpec) -> int:
    """The channels that a layer gives, as the row names them; 0 where it names none."""
    if spec.kind == "Conv":
        return _sizes(spec)[1]
    return next((_width(spec.children[last]) for last in ("cv3", "cv2") if last in spec.children), 0)


def _bare(spec: ModuleSpec) -> ModuleSpec:
    """Without what fusing changes."""
    attributes = {name: value for name, value in spec.attributes.items() if name != "bias"}
    children = {name: _bare(child) for name, child in spec.children.items() if child.kind != "BatchNorm2d"}
    return ModuleSpec(spec.kind, attributes, children)
