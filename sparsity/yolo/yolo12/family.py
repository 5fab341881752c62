"""The family YOLO12, as the ultralytics package has it."""

from __future__ import annotations

from sparsity.yolo.family import Family
from sparsity.yolo.yolo12 import architectures, blocks, published
from sparsity.yolo.yolov8.family import ANCHOR_FREE

YOLO12 = Family(
    key="yolo12",
    name="YOLO12",
    dialects=(ANCHOR_FREE,),
    sizes=architectures.SCALES,
    architecture=architectures.yolo12,
    kinds=blocks.KINDS,
    class_names=published.CLASS_NAMES,
    choices={published.AREA_ATTENTION: published.choose_attention},
)
