"""The rules of each family's own validation, for images, boxes and precision curves, and its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sparsity.data import labels, letterbox
from sparsity.data.labels import LabelTolerance
from sparsity.data.letterbox import Resizing
from sparsity.evaluation import average_precision
from sparsity.evaluation.average_precision import Rules
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.yolo.network import Network
from sparsity.yolo.yolo26.branches import ONE2MANY, ONE2ONE
from sparsity.yolo.yolo26.detect import MOST_DETECTIONS


@dataclass(frozen=True)
class Counting:
    """The rules of a family's own validation, which give its own figures.

    name: the family's name. batch_size, iou_thres: its defaults.
    resizing: how images are resized before padding.
    clipped: whether its own metric uses boxes that are clipped to the image. rules: those of its own metric.
    tolerance: how far outside the image a label may reach.
    head: the branch of the head that is counted; "" where the head has no branches.
    nms: whether non-maximum suppression chooses among the boxes. Without it, all are detections.
    most: the most detections of an image that the head gives; 0 where it sets no limit.
    """

    name: str
    batch_size: int
    iou_thres: float
    resizing: Resizing
    clipped: bool
    rules: Rules
    tolerance: LabelTolerance
    head: str = ""
    nms: bool = True
    most: int = 0

    def describe(self, batch_size: int, iou_thres: float) -> str:
        """Return one line that names the rules, and the settings whose defaults differ between families."""
        head = f"head {self.head}, " if self.head else ""
        nms = f"NMS above IoU {iou_thres:g}" if self.nms else "no NMS"
        return f"Counting as {self.name} does (docs/validation.md): batch size {batch_size}, {head}{nms}"


_YOLOV5 = Counting("YOLOv5", 32, 0.65, letterbox.YOLOV5, True, average_precision.YOLOV5, labels.YOLOV5)
_YOLOV8 = Counting("YOLOv8", 16, 0.7, letterbox.YOLOV8, False, average_precision.YOLOV8, labels.YOLOV8)
COUNTING: Mapping[str, Counting] = {
    "yolov5": _YOLOV5,
    "yolov8": _YOLOV8,
    "yolo26": replace(_YOLOV8, name="YOLO26", head=ONE2MANY),
    "yolo26_one2one": replace(_YOLOV8, name="YOLO26", head=ONE2ONE, nms=False, most=MOST_DETECTIONS),
}
"""Key of the dialect (see yolo.families) -> its rules. YOLOv5's IoU is that of the published COCO figures."""


def counting_of(network: Network | OnnxNetwork) -> Counting:
    """Return the rules of a network's dialect, under the name of its family."""
    return replace(COUNTING[network.dialect], name=network.family)
