"""Collects the detections of one network on a data set, and computes the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.letterbox import Placement
from sparsity.evaluation.average_precision import AveragePrecision, AveragePrecisionMeter
from sparsity.evaluation.results import Results
from sparsity.validation.counting import Counting, counting_of
from sparsity.validation.inputs import Detectable
from sparsity.validation.nms import Detections
from sparsity.validation.settings import ValidationSettings


def make_evaluator(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> Evaluator:
    """Return the evaluator for a network, with the rules of its family."""
    return Evaluator(dataset, single_cls=settings.single_cls, counting=counting_of(network))


class Evaluator:
    """Collects one network's detections: update() for each batch, then own() and results()."""

    def __init__(self, dataset: Dataset, *, counting: Counting, single_cls: bool = False) -> None:
        self.dataset, self.single_cls, self._counting = dataset, single_cls, counting
        self._meter = AveragePrecisionMeter(counting.rules)
        self._found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def update(
        self,
        images: Sequence[DatasetImage],
        placements: Sequence[Placement],
        found: Sequence[Detections],
    ) -> None:
        """Add the detections of a batch, in letterbox pixels."""
        for image, placement, detections in zip(images, placements, found, strict=True):
            found_xyxy = detections.boxes_xyxy.numpy()
            boxes = placement.to_image_xyxy(found_xyxy)
            counted = boxes if self._counting.clipped else placement.to_image_xyxy(found_xyxy, clip=False)
            scores, classes = detections.scores.numpy(), detections.classes.numpy()
            if self.single_cls:
                classes = np.zeros_like(classes)
            true = placement.to_letterbox_xyxy(image.labels.boxes_cxcywhn)
            true = placement.to_image_xyxy(true)
            self._meter.update(counted, scores, classes, true, image.labels.classes)
            self._found.append((image.image_id, boxes, scores, classes))

    def own(self) -> AveragePrecision:
        """Return the family's own metric."""
        return self._meter.compute()

    def results(self) -> Results:
        """Return the detections as COCO results."""
        images, boxes, scores, classes = zip(*self._found, strict=True) if self._found else ((),) * 4
        counts = [len(one) for one in scores]
        return Results.of(
            image_ids=np.repeat(np.array(images, np.int64), counts),
            category_ids=np.array(self.dataset.category_ids)[_joined(classes, np.zeros(0, np.int64))],
            boxes_xyxy=_joined(boxes, np.zeros((0, 4), np.float32)),
            scores=_joined(scores, np.zeros(0, np.float32)),
        )


def _joined(arrays: Sequence[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate([empty, *arrays])


def counted_categories(dataset: Dataset, settings: ValidationSettings) -> tuple[int, ...]:
    """Return the category ids that pycocotools counts separately: none where all classes count as one."""
    return () if settings.single_cls else dataset.category_ids
