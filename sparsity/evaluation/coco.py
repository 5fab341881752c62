"""The twelve COCO figures, by pycocotools."""

from __future__ import annotations

import gc
import io
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@dataclass(frozen=True)
class CocoFigures:
    """AP at IoU 0.50:0.95, 0.50, 0.75, by area; AR at 1, 10, 100 detections, by area.

    -1 where the data have no true box of that size, as pycocotools gives it.
    """

    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR1: float
    AR10: float
    AR100: float
    AR_small: float
    AR_medium: float
    AR_large: float


_ONE_AT_A_TIME = threading.Lock()
"""Muting pycocotools and pausing garbage collection are the whole process's."""
_LINES = (
    ("Average Precision", "AP", "0.50:0.95", "all", 100),
    ("Average Precision", "AP", "0.50", "all", 100),
    ("Average Precision", "AP", "0.75", "all", 100),
    ("Average Precision", "AP", "0.50:0.95", "small", 100),
    ("Average Precision", "AP", "0.50:0.95", "medium", 100),
    ("Average Precision", "AP", "0.50:0.95", "large", 100),
    ("Average Recall", "AR", "0.50:0.95", "all", 1),
    ("Average Recall", "AR", "0.50:0.95", "all", 10),
    ("Average Recall", "AR", "0.50:0.95", "all", 100),
    ("Average Recall", "AR", "0.50:0.95", "small", 100),
    ("Average Recall", "AR", "0.50:0.95", "medium", 100),
    ("Average Recall", "AR", "0.50:0.95", "large", 100),
)


def format_figures(figures: CocoFigures) -> str:
    """The twelve lines as pycocotools prints them."""
    lines = [
        f" {title:<18} ({short}) @[ IoU={iou:<9} | area={area:>6} | maxDets={most:>3} ] = {value:0.3f}"
        for (title, short, iou, area, most), value in zip(_LINES, astuple(figures), strict=True)
    ]
    return "\n".join(lines)


def predictions(
    image_id: int, boxes_xyxy: np.ndarray, scores: np.ndarray, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """One image's detections in COCO's results format: x, y, w, h to 3 decimals, scores to 5."""
    boxes_xywh = boxes_xyxy.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    boxes, values = boxes_xywh.round(3).tolist(), scores.astype(np.float64).round(5).tolist()
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(category_ids, boxes, values, strict=True)
    ]


def evaluate(
    annotations: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> CocoFigures:
    """Evaluate COCO results against COCO annotations on these images.

    category_ids: the classes that count; none to count all boxes as one class.
    No result at all gives zeros.
    """
    if not results:
        return CocoFigures(*[0.0] * len(fields(CocoFigures)))
    with _ONE_AT_A_TIME, redirect_stdout(io.StringIO()), _no_garbage_collection():
        truth = COCO()
        truth.dataset = annotations | {"annotations": _numbered(annotations["annotations"])}
        truth.createIndex()
        evaluation = _Evaluation(truth, truth.loadRes([dict(result) for result in results]))
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.useCats = int(bool(category_ids))
        if category_ids:
            evaluation.params.catIds = sorted(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return CocoFigures(*(float(value) for value in evaluation.stats))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare Python the search for cycles among pycocotools' millions of small objects: it has none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _numbered(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies with ids from 1: pycocotools takes a box whose id is 0 as never found."""
    return [
        row | {"id": number, "iscrowd": int(bool(row.get("iscrowd")))}
        for number, row in enumerate(annotations, 1)
    ]


class _Evaluation(COCOeval):
    """COCOeval that spares its matching loop the detections that can't match.

    Of the detections of an image and class, most overlap no true box by the lowest IoU threshold:
    they are unmatched whatever the others do, and ignored where their area is out of range. Only
    the rest goes through pycocotools' loop, which is where its time goes.
    """

    def __init__(self, truth: COCO, results: COCO) -> None:
        super().__init__(truth, results, "bbox")
        self._ranked: dict[tuple[int, int], _Ranked] = {}

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802
        """Detections x true boxes, as COCOeval gives it; sorts the detections by it."""
        found = self._dts[imgId, catId]
        if not self.params.useCats or not found:
            return super().computeIoU(imgId, catId)
        best_first = sorted(found, key=lambda detection: -detection["score"])
        found = self._dts[imgId, catId] = best_first[: self.params.maxDets[-1]]
        ious = super().computeIoU(imgId, catId)
        near = ious.max(1) >= self.params.iouThrs.min() if len(ious) else np.zeros(len(found), bool)
        self._ranked[imgId, catId] = _Ranked(
            ids=[detection["id"] for detection in found],
            scores=[detection["score"] for detection in found],
            areas=np.array([detection["area"] for detection in found]),
            near=np.flatnonzero(near),
        )
        self._dts[imgId, catId] = [found[i] for i in np.flatnonzero(near)]
        return ious[near] if near.any() else []

    def evaluateImg(  # noqa: N802
        self,
        imgId: int,
        catId: int,
        aRng: list[float],
        maxDet: int,
    ) -> dict[str, Any] | None:
        """One image, class and range of areas, as COCOeval gives it."""
        ranked = self._ranked.get((imgId, catId))
        if ranked is None:
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        shape = (len(self.params.iouThrs), len(ranked.ids))
        matches, ignored = np.zeros(shape), np.empty(shape, bool)
        ignored[:] = (ranked.areas < aRng[0]) | (ranked.areas > aRng[1])
        matched: dict[str, Any] = {"gtIgnore": _NONE}
        if self._gts[imgId, catId]:
            matched = super().evaluateImg(imgId, catId, aRng, maxDet)
            matches[:, ranked.near] = matched["dtMatches"]
            ignored[:, ranked.near] = matched["dtIgnore"]
        widened = {"dtIds": ranked.ids, "dtScores": ranked.scores}
        return matched | widened | {"dtMatches": matches, "dtIgnore": ignored}


_NONE = np.zeros(0)


@dataclass(frozen=True)
class _Ranked:
    """An image's detections of one class, best first; near: those that may match."""

    ids: list[int]
    scores: list[float]
    areas: np.ndarray
    near: np.ndarray


def _answer() -> None:
    """Evaluate the files that standard input names (see evaluation.processes); the figures as JSON."""
    request = json.load(sys.stdin)
    annotations, results = (
        json.loads(Path(request[name]).read_text(encoding="utf-8")) for name in ("annotations", "predictions")
    )
    ids = {name: request[name] for name in ("image_ids", "category_ids")}
    json.dump(asdict(evaluate(annotations, results, **ids)), sys.stdout)


if __name__ == "__main__":
    _answer()
