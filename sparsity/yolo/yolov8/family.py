"""The family YOLOv8, and the dialect of its head, which later families share."""

from __future__ import annotations

from sparsity.yolo.family import Dialect, Family
from sparsity.yolo.kind import Kind
from sparsity.yolo.shared_detect import choose_head
from sparsity.yolo.yolov8 import architectures, published
from sparsity.yolo.yolov8.blocks import C2f
from sparsity.yolo.yolov8.detect import DFL, AnchorFreeDetect

ANCHOR_FREE = Dialect(AnchorFreeDetect.dialect, "YOLOv8", AnchorFreeDetect)
ATTRIBUTES = ("nc", "reg_max", "strides")
NOTES = (
    *("no", "nl", "stride", "anchors", "inplace", "shape", "max_det"),
    *("export", "dynamic", "format", "legacy", "xyxy", "agnostic_nms"),
)
"""The attributes of an ultralytics Detect, and those that have no effect on what is computed here."""

YOLOV8 = Family(
    key="yolov8",
    name="YOLOv8",
    dialects=(ANCHOR_FREE,),
    sizes=architectures.SCALES,
    architecture=architectures.yolov8,
    kinds={
        "C2f": Kind(C2f, notes=("c",)),
        "DFL": Kind(DFL, ("c1",), whole=True),
        "AnchorFreeDetect": Kind(
            AnchorFreeDetect,
            ATTRIBUTES,
            fixed={"_end2end": (False, None), "end2end": (False, None)},
            notes=NOTES,
        ),
    },
    class_names=published.CLASS_NAMES,
    choices={published.DETECT: choose_head},
    other_tasks=published.OTHER_TASKS,
)
