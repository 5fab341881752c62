"""Gathers one network's detections over a data set, and counts them."""

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
    """What gathers the network's detections, and counts them as its family does."""
    return Evaluator(dataset, single_cls=settings.single_cls, counting=counting_of(network))


class Evaluator:
    """Gathers one network's detections over a data set: update() by batch, then the outcome."""

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
        """Add a batch's detections, in letterbox pixels."""
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
        """The family's own metric."""
        return self._meter.compute()

    def predictions(self) -> list[dict[str, Any]]:
        """The detections as COCO results; made anew by each call, since dicts take much memory."""
        ids, rows = self.dataset.category_ids, []
        for image_id, boxes, scores, classes in self._found:
            rows += coco.predictions(image_id, boxes, scores, [ids[label] for label in classes.tolist()])
        return rows


def counted_categories(dataset: Dataset, settings: ValidationSettings) -> tuple[int, ...]:
    """The category ids that pycocotools tells apart: none where all classes count as one."""
    return () if settings.single_cls else dataset.category_ids
