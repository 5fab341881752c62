"""Which detections match a true box, by pycocotools: at ten IoU thresholds, in four ranges of area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.cocoeval import COCOeval, Params

from sparsity.evaluation.results import Results

PARAMS = Params("bbox")
THRESHOLDS = len(PARAMS.iouThrs)
AREAS: np.ndarray = np.array(PARAMS.areaRng)
"""The ranges of area in square pixels, [areas, 2]."""
ALL = PARAMS.areaRngLbl.index("all")
"""The index of the area range "all"."""
MOST: int = PARAMS.maxDets[-1]
"""The most detections of a class and image that count."""
AS_ONE = -1
"""The id of the only category where all boxes count as one class."""


@dataclass(frozen=True)
class TrueBoxes:
    """The true boxes of some images and categories.

    images, categories: their sorted ids. known: the categories whose boxes and detections count; others than
    categories where all count as one. pairs: (category, image), as indices -> pycocotools' annotations.
    counts [categories, areas]: the number of boxes to find, without crowds. per_image [images, categories]:
    the same for the area "all".
    """

    images: np.ndarray
    categories: np.ndarray
    known: np.ndarray
    pairs: Mapping[tuple[int, int], list[dict[str, Any]]] = field(repr=False)
    counts: np.ndarray = field(repr=False)
    per_image: np.ndarray = field(repr=False)

    @classmethod
    def of(
        cls, annotations: dict[str, Any], image_ids: Sequence[int], category_ids: Sequence[int]
    ) -> TrueBoxes:
        """Return the boxes of COCO annotations. category_ids: empty where all boxes count as one class.

        Ids are counted from 1 anew, in each pair: pycocotools never counts a box whose id is 0 as found.
        """
        images = np.unique(np.asarray(image_ids, np.int64))
        as_one = not len(category_ids)
        known = np.unique([one["id"] for one in annotations["categories"]] if as_one else category_ids)
        categories = np.array([AS_ONE]) if as_one else known
        rows = {image: row for row, image in enumerate(images.tolist())}
        columns = {category: 0 if as_one else column for column, category in enumerate(known.tolist())}
        pairs: dict[tuple[int, int], list[dict[str, Any]]] = {}
        counts = np.zeros((len(categories), len(AREAS)), np.int64)
        per_image = np.zeros((len(images), len(categories)), np.int32)
        boxes = annotations["annotations"]
        if as_one:
            boxes = sorted(boxes, key=itemgetter("category_id"))  # as pycocotools joins the categories
        for box in boxes:
            row, column = rows.get(box["image_id"]), columns.get(box["category_id"])
            if row is None or column is None:
                continue
            crowd = int(bool(box.get("iscrowd")))
            pair = pairs.setdefault((column, row), [])
            about = {"bbox": box["bbox"], "area": box["area"], "iscrowd": crowd, "ignore": crowd}
            pair.append({"id": len(pair) + 1, **about})
            if not crowd:
                within = (AREAS[:, 0] <= box["area"]) & (box["area"] <= AREAS[:, 1])
                counts[column] += within
                per_image[row, column] += within[ALL]
        return cls(images, categories, known, pairs, counts, per_image)


@dataclass(frozen=True)
class Ranked:
    """Detections by category and image, best first, at most MOST of a category and image.

    category [n], image [n]: indices. rank [n]: the place in the category and image. boxes_xywh [n, 4],
    scores [n].
    """

    category: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    boxes_xywh: np.ndarray
    scores: np.ndarray

    def of_category(self, category: int) -> Ranked:
        """Return the detections of a category."""
        ours = slice(*np.searchsorted(self.category, [category, category + 1]))
        columns = (self.category, self.image, self.rank, self.boxes_xywh, self.scores)
        return Ranked(*(one[ours] for one in columns))

    @cached_property
    def best_first(self) -> np.ndarray:
        """The order of all images' detections: best score first; of equal ones, images by id."""
        return np.argsort(-self.scores, kind="stable")


def rank(results: Results, truth: TrueBoxes) -> Ranked:
    """Return the results of the images and categories, in order."""
    wanted = np.isin(results.image_ids, truth.images) & np.isin(results.category_ids, truth.known)
    results = results[wanted]
    column = np.searchsorted(truth.known, results.category_ids)
    image = np.searchsorted(truth.images, results.image_ids).astype(np.int32)
    as_one = len(truth.categories) and truth.categories[0] == AS_ONE
    category = np.zeros_like(column) if as_one else column
    # Where all count as one class, equal scores stand by category, as pycocotools joins them.
    order = np.lexsort((column, -results.scores, image, category))
    pair = category[order] * len(truth.images) + image[order]
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    kept = order[place < MOST]
    return Ranked(
        category[kept], image[kept], place[place < MOST], results.boxes_xywh[kept], results.scores[kept]
    )


@dataclass(frozen=True)
class Found:
    """Of the detections of a category: matched, ignored [areas, thresholds, n], as pycocotools has them."""

    matched: np.ndarray
    ignored: np.ndarray


def match(ours: Ranked, truth: TrueBoxes, category: int) -> Found:
    """Match the detections of a category with its true boxes, image by image.

    Detections that have less than the lowest threshold with every true box match none. They are ignored if
    their area is out of range.
    """
    areas = ours.boxes_xywh[:, 2] * ours.boxes_xywh[:, 3]
    ignored = np.repeat(_outside(areas)[:, None], THRESHOLDS, 1)
    matched = np.zeros_like(ignored)
    starts = np.flatnonzero(np.diff(ours.image, prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(ours.image)]):
        true = truth.pairs.get((category, int(ours.image[start])))
        if true is None:
            continue
        boxes = np.array([one["bbox"] for one in true], np.float64)
        ious = mask.iou(ours.boxes_xywh[start:end], boxes, [one["iscrowd"] for one in true])
        near = np.flatnonzero(ious.max(1) >= PARAMS.iouThrs.min())
        if len(near):
            pair = _Pair(true, ours.scores[start:end][near], areas[start:end][near], ious[near])
            places = start + near
            matched[:, :, places], by_box = pair.match()
            ignored[:, :, places] = np.where(matched[:, :, places], by_box, ignored[:, :, places])
    return Found(matched, ignored)


def _outside(areas: np.ndarray) -> np.ndarray:
    """Return whether areas [n] are outside each range: [areas, n]."""
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


class _Pair(COCOeval):
    """pycocotools' evaluation of one image and category.

    true: its annotations, whose ids are their places from 1 on. scores, areas [n]: of detections, best first.
    ious [n, true boxes].
    """

    def __init__(
        self, true: list[dict[str, Any]], scores: np.ndarray, areas: np.ndarray, ious: np.ndarray
    ) -> None:
        self.params = PARAMS
        pairs = enumerate(zip(scores.tolist(), areas.tolist(), strict=True), 1)
        found = [{"id": number, "score": score, "area": area} for number, (score, area) in pairs]
        self._gts, self._dts, self.ious = {(0, 0): true}, {(0, 0): found}, {(0, 0): ious}
        crowd, size = (np.array([one[name] for one in true]) for name in ("ignore", "area"))
        self._ignored = crowd.astype(bool) | _outside(size)

    def match(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which detections match, and which match an ignored box, [areas, thresholds, n] each.

        pycocotools gives a detection the best true box that is free, and an ignored one only where no other
        fits. So ranges of area in which the same boxes are ignored share a matching. Ignoring all boxes gives
        the same matching as ignoring none.
        """
        matchings: dict[bytes, np.ndarray] = {}
        found = []
        for ignored, area in zip(self._ignored, PARAMS.areaRng, strict=True):
            key = ignored.tobytes() if ignored.any() and not ignored.all() else b""
            if key not in matchings:
                matchings[key] = self.evaluateImg(0, 0, area, MOST)["dtMatches"].astype(np.intp)
            found.append(matchings[key])
        places = np.stack(found)
        of_box = np.take_along_axis(self._ignored[:, None], np.maximum(places - 1, 0), axis=2)
        matched = places > 0
        return matched, matched & of_box
