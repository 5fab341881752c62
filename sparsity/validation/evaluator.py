"""Collects the detections of one network on a data set, and computes the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.letterbox import Placement
from sparsity.evaluation import coco
from sparsity.evaluation.average_precision import AveragePrecision, AveragePrecisionMeter
from sparsity.validation.counting import Counting, counting_of
from sparsity.validation.inputs import Detectable
from sparsity.validation.nms import Detections
from sparsity.validation.settings import ValidationSettings


def make_evaluator(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> Evaluator:
    """Return the evaluator for a network, with the rules of its family."""
    return Evaluator(dataset, single_cls=settings.single_cls, counting=counting_of(network))


class Evaluator:
    """Collects one network's detections: update() for each batch, then own() and predictions()."""

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

    def predictions(self) -> list[dict[str, Any]]:
        """Return the detections as COCO results.

        Each call makes a new list, because the dicts take too much memory to keep.
        """
        ids, rows = self.dataset.category_ids, []
        for image_id, boxes, scores, classes in self._found:
            rows += coco.predictions(image_id, boxes, scores, [ids[label] for label in classes.tolist()])
        return rows


def counted_categories(dataset: Dataset, settings: ValidationSettings) -> tuple[int, ...]:
    """Return the category ids that pycocotools counts separately: none where all classes count as one."""
    return () if settings.single_cls else dataset.category_ids
