"""The classes that YOLO12 checkpoints name besides those of YOLO11, and the kinds that they become here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sparsity.yolo.yolov8.published import BLOCK, blocks_of

AREA_ATTENTION = "ultralytics AAttn"
"""The class of the attention of YOLO12, and of that of its authors' own package."""
CLASS_NAMES: dict[tuple[str, str], str] = {**blocks_of("A2C2f", "ABlock"), (BLOCK, "AAttn"): AREA_ATTENTION}
"""(module, name) as pickled -> a kind, or AREA_ATTENTION."""


def choose_attention(children: Collection[str], _attributes: Mapping[str, Any]) -> str:
    """Return the kind of an AAttn. The authors' own package has another module under the same name.

    Raises ValueError for the latter.
    """
    if "qkv" not in children and {"qk", "v"} <= set(children):
        raise ValueError(
            "holds qk and v in place of qkv, as in the YOLO12 of sunsmarterjie/yolov12; only that of the "
            "ultralytics package is supported"
        )
    return "AAttn"
