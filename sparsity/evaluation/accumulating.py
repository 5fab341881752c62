"""Precision and recall of each class, as pycocotools accumulates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsity.evaluation.matching import AREAS, PARAMS, THRESHOLDS, Found, Ranked


@dataclass(frozen=True)
class Accumulated:
    """pycocotools' arrays; -1 where a class has no true box of an area.

    precision: [thresholds, recalls, classes, areas, most detections]; only for the largest number of
    detections, which is all that the figures need. recall: [thresholds, classes, areas, most detections].
    """

    precision: np.ndarray
    recall: np.ndarray

    @classmethod
    def empty(cls, classes: int) -> Accumulated:
        """Return the arrays of classes that are not added yet."""
        sizes = classes, len(AREAS), len(PARAMS.maxDets)
        return cls(
            -np.ones((THRESHOLDS, len(PARAMS.recThrs), *sizes)),
            -np.ones((THRESHOLDS, *sizes)),
        )

    def add(self, number: int, ours: Ranked, found: Found, true: np.ndarray) -> None:
        """Add a class. true: the number of its true boxes by area."""
        order = ours.best_first
        place = ours.rank[order]
        for area, boxes in enumerate(true.tolist()):
            if not boxes:
                continue
            counted = ~found.ignored[area][:, order]
            right = found.matched[area][:, order] & counted
            for most, limit in enumerate(PARAMS.maxDets):
                self.recall[:, number, area, most] = right[:, place < limit].sum(1) / boxes
            self.precision[:, :, number, area, -1] = _precision(right, counted, boxes)


def _precision(right: np.ndarray, counted: np.ndarray, boxes: int) -> np.ndarray:
    """Return the best precision at each recall or a higher one: [thresholds, recalls].

    right, counted: [thresholds, n], of detections, best first. Only right ones raise the recall, so precision
    is computed for these alone. boxes: the number of true boxes.
    """
    found = np.zeros((len(right), len(PARAMS.recThrs)))
    made = counted.cumsum(1)
    for row, (hits, seen) in enumerate(zip(right, made, strict=True)):
        places = np.flatnonzero(hits)
        number = np.arange(1, len(places) + 1, dtype=float)
        precision = number / (seen[places] + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(number / boxes, PARAMS.recThrs, side="left")
        inside = reached < len(places)
        found[row, inside] = best[reached[inside]]
    return found
