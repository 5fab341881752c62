"""How each family's own validation counts: what it does to images, boxes and curves, and its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsity.data import letterbox
from sparsity.data.letterbox import Resizing
from sparsity.evaluation import average_precision
from sparsity.evaluation.average_precision import Rules
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class Counting:
    """What a family's validation does, so that its figures come out.

    name: whose. batch_size, iou_thres: where the user gives none. resizing: of images before padding.
    clipped: whether its own metric looks at boxes clipped to the image. rules: its own metric's.
    """

    name: str
    batch_size: int
    iou_thres: float
    resizing: Resizing
    clipped: bool
    rules: Rules

    def describe(self, batch_size: int, iou_thres: float) -> str:
        """A line that says by whose rules is counted, with these of the settings that families differ in."""
        return (
            f"Counting as {self.name} does (docs/validation.md): batch size {batch_size}, "
            f"NMS above IoU {iou_thres:g}"
        )


COUNTING: Mapping[str, Counting] = {
    "yolov5": Counting("YOLOv5", 32, 0.65, letterbox.YOLOV5, True, average_precision.YOLOV5),
    "yolov8": Counting("YOLOv8", 16, 0.7, letterbox.YOLOV8, False, average_precision.YOLOV8),
}
"""By the key of the family (see yolo.families). YOLOv5's IoU is that of the published COCO figures."""


def counting_of(network: Network | OnnxNetwork) -> Counting:
    """The counting of a network's family."""
    return COUNTING[network.dialect]
