"""The family YOLOv5."""

from __future__ import annotations

from sparsity.yolo.family import Dialect, Family
from sparsity.yolo.kind import Kind
from sparsity.yolo.yolov5 import architectures, blocks, published
from sparsity.yolo.yolov5.detect import Detect

YOLOV5 = Family(
    key="yolov5",
    name="YOLOv5",
    dialects=(Dialect(Detect.dialect, "YOLOv5", Detect),),
    sizes=architectures.SCALES,
    architecture=architectures.yolov5,
    kinds={
        **blocks.KINDS,
        "Detect": Kind(
            Detect,
            ("nc", "na", "strides"),
            notes=(
                *("no", "nl", "grid", "anchor_grid", "inplace", "stride"),
                *("export", "dynamic", "onnx_dynamic"),
            ),
        ),
    },
    class_names=published.CLASS_NAMES,
    other_tasks=published.OTHER_TASKS,
)
