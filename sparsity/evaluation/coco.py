"""The twelve COCO figures and the matches that they are computed from, by pycocotools."""

from __future__ import annotations

import gc
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from sparsity.evaluation.results import Results


@dataclass(frozen=True)
class CocoFigures:
    """AP at IoU 0.50:0.95, 0.50, 0.75, and by area; AR at 1, 10, 100 detections, and by area.

    A figure is -1 where the data have no true box of that size, as in pycocotools.
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


@dataclass(frozen=True)
class Matched:
    """What AP is computed from, for area "all" and at most 100 detections of a class and image.

    image_ids [images], category_ids [categories]: sorted. The only category is -1 where all boxes count as
    one class. true_boxes [images, categories]: the number of true boxes to find, without crowds.

    The other arrays describe the detections. They are sorted by category, then by score, best first. Equal
    scores are in the order of pycocotools' accumulate (images by id).
    image [n], category [n]: indices into the ids.
    matched [n, 10]: whether the detection matches a true box at each IoU threshold from 0.50 to 0.95.
    ignored [n, 10]: whether it counts neither as right nor as wrong there, for example because it matches a
    crowd.
    Detections that are ignored at every threshold are left out, because they change no figure.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    true_boxes: np.ndarray
    image: np.ndarray
    category: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray

    def save(self, path: Path) -> None:
        """Write the arrays to path, as a compressed .npz file that bootstrap.load reads."""
        with path.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})


AnyResults: TypeAlias = "Results | Sequence[dict[str, Any]]"
MOST_AT_A_TIME = 200_000
"""The detections that pycocotools holds at a time, if no single category has more."""
_ONE_AT_A_TIME = threading.Lock()
"""Muting pycocotools and pausing garbage collection affect the whole process."""
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
    """Return the twelve lines as pycocotools prints them."""
    lines = [
        f" {title:<18} ({short}) @[ IoU={iou:<9} | area={area:>6} | maxDets={most:>3} ] = {value:0.3f}"
        for (title, short, iou, area, most), value in zip(_LINES, astuple(figures), strict=True)
    ]
    return "\n".join(lines)


def evaluate(
    annotations: dict[str, Any],
    results: AnyResults,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> CocoFigures:
    """Evaluate COCO results, as Results or as dicts, against COCO annotations on these images.

    category_ids: the classes to count; if it is empty, all boxes count as one class.
    Without any result, all figures are 0.
    """
    return _figures(_evaluated(annotations, results, image_ids, category_ids))


def evaluate_matched(
    annotations: dict[str, Any],
    results: AnyResults,
    *,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> tuple[CocoFigures, Matched]:
    """Evaluate as evaluate does. Return the figures, and the matches for resampling the images."""
    images, categories = np.unique(image_ids), np.unique(category_ids or [-1])
    parts: list[list[np.ndarray]] = []

    def collect(evaluation: _Evaluation, first: int, count: int) -> None:
        image, category, *others = _found(evaluation.evalImgs, len(images), count)
        parts.append([image, category + np.int32(first), *others])

    evaluation = _evaluated(annotations, results, image_ids, category_ids, collect)
    truth = _true_boxes(annotations, images.tolist(), sorted(set(category_ids)))
    parts = parts or [_found([], len(images), len(categories))]
    found = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _figures(evaluation), Matched(images, categories, truth, *found)


def _evaluated(
    annotations: dict[str, Any],
    results: AnyResults,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    collect: Callable[[_Evaluation, int, int], None] = lambda *_: None,
) -> _Evaluation | None:
    """Return pycocotools' evaluation; None without results, which pycocotools does not accept.

    The categories are evaluated in groups, because pycocotools makes several objects of each detection. Each
    category counts for itself, so the figures are the same. collect: called with the evaluation of each
    group, the number of its first category, and how many it has.
    """
    results = results if isinstance(results, Results) else Results.of_rows(results)
    if not len(results):
        return None
    with _ONE_AT_A_TIME, redirect_stdout(io.StringIO()), _no_garbage_collection():
        truth = COCO()
        truth.dataset = annotations | {"annotations": _numbered(annotations["annotations"])}
        truth.createIndex()
        categories, first = sorted(set(category_ids)), 0
        parts: list[dict[str, np.ndarray]] = []
        for group in _groups(categories, results):
            ours = results[np.isin(results.category_ids, group)] if group else results
            evaluation = _Evaluation(truth, _as_coco(ours, truth))
            evaluation.params.imgIds = sorted(image_ids)
            evaluation.params.useCats = int(bool(group))
            if group:
                evaluation.params.catIds = group
            evaluation.evaluate()
            evaluation.accumulate()
            collect(evaluation, first, len(group) or 1)
            parts.append({name: evaluation.eval[name] for name in ("precision", "recall", "scores")})
            first += len(group)
        evaluation.forget()
        evaluation.params.catIds = categories or evaluation.params.catIds
        for name, axis in (("precision", 2), ("recall", 1), ("scores", 2)):
            evaluation.eval[name] = np.concatenate([part[name] for part in parts], axis=axis)
        evaluation.summarize()
    return evaluation


def _groups(categories: Sequence[int], results: Results) -> list[list[int]]:
    """Return the categories in groups of about MOST_AT_A_TIME results; [[]] where all count as one class."""
    ids, counts = np.unique(results.category_ids, return_counts=True)
    number = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    groups: list[list[int]] = [[]]
    held = 0
    for category in categories:
        if held and held + number.get(category, 0) > MOST_AT_A_TIME:
            groups.append([])
            held = 0
        groups[-1].append(category)
        held += number.get(category, 0)
    return groups


def _as_coco(results: Results, truth: COCO) -> COCO:
    """Return results as pycocotools' loadRes does, without the outline that it makes of each box."""
    found = COCO()
    rows = results.rows()
    for number, row in enumerate(rows, 1):
        row |= {"id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
    found.dataset = {**truth.dataset, "annotations": rows}
    found.createIndex()
    return found


def _figures(evaluation: _Evaluation | None) -> CocoFigures:
    if evaluation is None:
        return CocoFigures(*[0.0] * len(fields(CocoFigures)))
    return CocoFigures(*(float(value) for value in evaluation.stats))


def _true_boxes(annotations: dict[str, Any], images: list[int], categories: list[int]) -> np.ndarray:
    """Return the number of true boxes that pycocotools counts: [images, categories].

    If categories is empty, all boxes count as one category.
    """
    counts = np.zeros((len(images), len(categories) or 1), np.int32)
    rows = {image: row for row, image in enumerate(images)}
    columns = {category: column for column, category in enumerate(categories)}
    columns = columns or {category["id"]: 0 for category in annotations["categories"]}
    smallest, largest = Params("bbox").areaRng[_ALL]
    for box in annotations["annotations"]:
        row, column = rows.get(box["image_id"]), columns.get(box["category_id"])
        counted = not box.get("iscrowd") and smallest <= box["area"] <= largest
        if row is not None and column is not None and counted:
            counts[row, column] += 1
    return counts


def _found(per_image: list[dict[str, Any] | None], images: int, categories: int) -> list[np.ndarray]:
    """Return image, category, matched and ignored of Matched.

    per_image: pycocotools' evalImgs, by category, area and image.
    """
    params = Params("bbox")
    none = np.zeros((len(params.iouThrs), 0), bool)
    parts = [(none, none, np.zeros(0, np.int32), np.zeros(0, np.int32))]
    for category in range(categories):
        start = (category * len(params.areaRng) + _ALL) * images
        ours = [(i, one) for i, one in enumerate(per_image[start : start + images]) if one and one["dtIds"]]
        if not ours:
            continue
        order = np.argsort(-np.concatenate([one["dtScores"] for _, one in ours]), kind="mergesort")
        image = np.repeat([i for i, _ in ours], [len(one["dtIds"]) for _, one in ours])[order]
        matched, ignored = (
            np.concatenate([one[name] for _, one in ours], axis=1)[:, order].astype(bool)
            for name in ("dtMatches", "dtIgnore")
        )
        parts.append((matched, ignored, image.astype(np.int32), np.full(len(order), category, np.int32)))
    matched, ignored, image, category = (
        np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)
    )
    kept = ~ignored.all(0)
    return [image[kept], category[kept], matched.T[kept], ignored.T[kept]]


_ALL = 0
"""The index of pycocotools' area range "all"."""


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause garbage collection. pycocotools makes millions of small objects without reference cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _numbered(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return copies with ids from 1: pycocotools never counts a box whose id is 0 as found."""
    return [
        row | {"id": number, "iscrowd": int(bool(row.get("iscrowd")))}
        for number, row in enumerate(annotations, 1)
    ]


class _Evaluation(COCOeval):
    """COCOeval whose matching loop leaves out detections that cannot match.

    Most detections of an image and class have less than the lowest IoU threshold with every true box. They
    are unmatched in any case, and ignored if their area is out of range. Only the others go through
    pycocotools' loop, which takes most of its time.
    """

    def __init__(self, truth: COCO, results: COCO) -> None:
        super().__init__(truth, results, "bbox")
        self._ranked: dict[tuple[int, int], _Ranked] = {}

    def forget(self) -> None:
        """Drop all but the accumulated arrays."""
        self.evalImgs, self._ranked, self.ious = [], {}, {}

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802
        """Return the IoU as COCOeval does: [detections, true boxes], without detections that cannot match."""
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
        """Evaluate one image, class and area range. Return the same as COCOeval."""
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
    """The detections of one image and class, best first. near: indices of those that can match."""

    ids: list[int]
    scores: list[float]
    areas: np.ndarray
    near: np.ndarray


def _answer() -> None:
    """Evaluate the files that standard input names (see evaluation.processes). Print the figures as JSON."""
    request = json.load(sys.stdin)
    annotations = json.loads(Path(request["annotations"]).read_text(encoding="utf-8"))
    results = Results.read(Path(request["predictions"]))
    ids = {name: request[name] for name in ("image_ids", "category_ids")}
    if request.get("matched"):
        figures, matched = evaluate_matched(annotations, results, **ids)
        matched.save(Path(request["matched"]))
    else:
        figures = evaluate(annotations, results, **ids)
    json.dump(asdict(figures), sys.stdout)


if __name__ == "__main__":
    _answer()
