"""Collects the detections of one network on a data set, and computes the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.letterbox import Placement
from sparsity.evaluation.average_precision import AveragePrecision, AveragePrecisionMeter
from sparsity.evaluation.results import Results
from sparsity.validation.counting import Counting, counting_of
from sparsity.validation.inputs import Detectable
from sparsity.validation.nms import KeptBoxes
from sparsity.validation.settings import ValidationSettings


def make_evaluator(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> Evaluator:
    """Return the evaluator for a network, with the rules of its family."""
    return Evaluator(dataset, single_cls=settings.single_cls, counting=counting_of(network))


class Evaluator:
    """Collects one network's detections: update() for each batch, then own() and results()."""

    def __init__(self, dataset: Dataset, *, counting: Counting, single_cls: bool = False) -> None:
        self.dataset, self.single_cls, self._counting = dataset, single_cls, counting
        self._meter = AveragePrecisionMeter(counting.rules)
        self._found: list[_Batch] = []

    def update(
        self,
        images: Sequence[DatasetImage],
        placements: Sequence[Placement],
        found: Sequence[KeptBoxes],
    ) -> None:
        """Add the detections of a batch, in letterbox pixels."""
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
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
            kept.append((boxes, scores, classes))
        self._found.append(_Batch.of([image.image_id for image in images], kept))

    def own(self) -> AveragePrecision:
        """Return the family's own metric."""
        return self._meter.compute()

    def results(self) -> Results:
        """Return the detections as COCO results."""
        all_of_them = _Batch.joined(self._found)
        return Results.of(
            image_ids=all_of_them.image_ids,
            category_ids=np.array(self.dataset.category_ids)[all_of_them.classes],
            boxes_xyxy=all_of_them.boxes_xyxy,
            scores=all_of_them.scores,
        )


@dataclass(frozen=True)
class _Batch:
    """The detections of some images: image_ids [n], boxes_xyxy [n, 4], scores [n], classes [n].

    The arrays are copies: those of single images are small, and hold on to larger memory.
    """

    image_ids: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(
        cls, image_ids: Sequence[int], found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> _Batch:
        """Return the detections of images: boxes, scores and classes of each."""
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
        boxes, scores, classes = (np.concatenate(arrays) for arrays in zip(none, *found, strict=True))
        counts = [len(one) for _, one, _ in found]
        return cls(np.repeat(np.array(image_ids, np.int64), counts), boxes, scores, classes.astype(np.int32))

    @classmethod
    def joined(cls, batches: Sequence[_Batch]) -> _Batch:
        """Return the detections of all batches."""
        parts = [cls.of([], []), *batches]
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))


def counted_categories(dataset: Dataset, settings: ValidationSettings) -> tuple[int, ...]:
    """Return the category ids that pycocotools counts separately: none where all classes count as one."""
    return () if settings.single_cls else dataset.category_ids
