"""The family YOLOv8."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sparsity.yolo.family import Dialect, Family
from sparsity.yolo.kind import Kind
from sparsity.yolo.yolov8 import architectures, published
from sparsity.yolo.yolov8.blocks import C2f
from sparsity.yolo.yolov8.detect import CHILDREN, DFL, AnchorFreeDetect


def choose_head(children: Collection[str], attributes: Mapping[str, Any]) -> str:
    """Return the kind of an ultralytics Detect. Several families share this class, so its content decides.

    Raises ValueError for a head that is not supported.
    """
    one_to_one = [name for name in children if name.startswith("one2one_")]
    if one_to_one:
        raise ValueError(
            f"holds {one_to_one[0]}, a one-to-one branch as in YOLOv10 and YOLO26; this head is not supported"
        )
    if attributes.get("reg_max") == 1:
        raise ValueError("has reg_max 1, as in YOLO26; this head is not supported")
    if not set(children) <= set(CHILDREN):
        more = ", ".join(sorted(set(children) - set(CHILDREN)))
        raise ValueError(f"holds {more} besides {', '.join(CHILDREN)}; this head is not supported")
    return "AnchorFreeDetect"


YOLOV8 = Family(
    key="yolov8",
    dialect=Dialect(AnchorFreeDetect.dialect, "YOLOv8", AnchorFreeDetect),
    sizes=architectures.SCALES,
    architecture=architectures.yolov8,
    kinds={
        "C2f": Kind(C2f, notes=("c",)),
        "DFL": Kind(DFL, ("c1",), whole=True),
        "AnchorFreeDetect": Kind(
            AnchorFreeDetect,
            ("nc", "reg_max", "strides"),
            fixed={"_end2end": (False, None), "end2end": (False, None)},
            notes=(
                *("no", "nl", "stride", "anchors", "inplace", "shape", "max_det"),
                *("export", "dynamic", "format", "legacy", "xyxy", "agnostic_nms"),
            ),
        ),
    },
    class_names=published.CLASS_NAMES,
    choices={published.DETECT: choose_head},
    other_tasks=published.OTHER_TASKS,
)
