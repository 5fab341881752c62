"""The family YOLO11."""

from __future__ import annotations

from sparsity.yolo.family import Family
from sparsity.yolo.yolo11 import architectures, blocks, published
from sparsity.yolo.yolov8.family import ANCHOR_FREE

YOLO11 = Family(
    key="yolo11",
    name="YOLO11",
    dialects=(ANCHOR_FREE,),
    sizes=architectures.SCALES,
    architecture=architectures.yolo11,
    kinds=blocks.KINDS,
    class_names=published.CLASS_NAMES,
)
