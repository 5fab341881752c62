"""An architecture in the form of YOLOv8's yaml, if rows can describe it."""

from __future__ import annotations

from typing import Any

from sparsity.formats.yaml_rows import SHARED, Described, describe_rows, sizes, width
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolov8.architectures import c2f, detect


def describe(architecture: Architecture) -> dict[str, Any]:
    """Return the yaml's dict, with backbone and head if rows can describe them (see describe_rows)."""
    return {
        **{"nc": architecture[-1].module.attributes["nc"], "ch": 3, "channels": 3},
        **{"depth_multiple": 1.0, "width_multiple": 1.0},
        **describe_rows(architecture, _DESCRIBERS),
    }


def _describe_c2f(spec: ModuleSpec) -> Described:
    blocks = spec.children["m"].children
    shortcut = all(block.attributes.get("add", True) for block in blocks.values())
    c1, c2 = sizes(spec.children["cv1"])[0], width(spec)
    n = max(1, len(blocks))
    return c2f(c1, c2, n, shortcut), n, "C2f", [c2, shortcut]


def _describe_detect(spec: ModuleSpec) -> Described:
    branches = spec.children["cv2"].children.values()
    channels = tuple(sizes(branch.children["0"])[0] for branch in branches)
    nc, strides = spec.attributes["nc"], spec.attributes["strides"]
    return detect(channels, nc, strides), 1, "Detect", ["nc"]


_DESCRIBERS = {**SHARED, "C2f": _describe_c2f, "AnchorFreeDetect": _describe_detect}
