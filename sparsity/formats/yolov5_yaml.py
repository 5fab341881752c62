"""An architecture in the form of YOLOv5's yaml, if rows can describe it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sparsity.formats.yaml_rows import SHARED, Described, describe_rows, sizes, width
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolov5.architectures import c3


def describe(architecture: Architecture, anchors: Tensor) -> dict[str, Any]:
    """Return the yaml's dict, with backbone and head if rows can describe them (see describe_rows).

    anchors: [maps, na, 2], in pixels.
    """
    return {
        **{"nc": architecture[-1].module.attributes["nc"], "ch": 3},
        **{"depth_multiple": 1.0, "width_multiple": 1.0, "anchors": anchors.flatten(1).tolist()},
        **describe_rows(architecture, _DESCRIBERS),
    }


def _describe_c3(spec: ModuleSpec) -> Described:
    blocks = spec.children["m"].children
    shortcut = all(block.attributes.get("add", True) for block in blocks.values())
    c1, c2 = sizes(spec.children["cv1"])[0], width(spec)
    n = max(1, len(blocks))
    return c3(c1, c2, n, shortcut), n, "C3", [c2] if shortcut else [c2, False]


_DESCRIBERS = {**SHARED, "C3": _describe_c3, "Detect": lambda spec: (spec, 1, "Detect", ["nc", "anchors"])}
