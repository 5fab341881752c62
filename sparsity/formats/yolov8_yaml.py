"""An architecture as YOLOv8's yaml tells it, where that can tell it."""

from __future__ import annotations

from typing import Any

from sparsity.formats.yaml_rows import SHARED, Told, sizes, tell_rows, width
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolov8.architectures import c2f, detect


def describe(architecture: Architecture) -> dict[str, Any]:
    """The yaml's dict, with backbone and head where rows can tell them (see tell_rows)."""
    return {
        **{"nc": architecture[-1].module.attributes["nc"], "ch": 3, "channels": 3},
        **{"depth_multiple": 1.0, "width_multiple": 1.0},
        **tell_rows(architecture, _TELL),
    }


def _tell_c2f(spec: ModuleSpec) -> Told:
    blocks = spec.children["m"].children
    shortcut = all(block.attributes.get("add", True) for block in blocks.values())
    c1, c2 = sizes(spec.children["cv1"])[0], width(spec)
    n = max(1, len(blocks))
    return c2f(c1, c2, n, shortcut), n, "C2f", [c2, shortcut]


def _tell_detect(spec: ModuleSpec) -> Told:
    levels = spec.children["cv2"].children.values()
    channels = tuple(sizes(level.children["0"])[0] for level in levels)
    nc, strides = spec.attributes["nc"], spec.attributes["strides"]
    return detect(channels, nc, strides), 1, "Detect", ["nc"]


_TELL = {**SHARED, "C2f": _tell_c2f, "AnchorFreeDetect": _tell_detect}
