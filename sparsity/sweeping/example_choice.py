"""Chooses typical images of a sweep, and collects what some of its levels detect in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sparsity.base.boxes import box_iou_xyxy
from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.evaluation.results import Results
from sparsity.sweeping.example import Box, Example, Panel
from sparsity.sweeping.level import Level
from sparsity.validation.run_files import PREDICTIONS

IMAGES, LEVELS = 4, 3
STEP = 0.1
"""Losses that differ by less than half of this are taken as equal."""
LEAST_SCORE = 0.25
"""The confidence from which on a detection is shown and counted, that of predict."""
LEAST_IOU = 0.5
"""The IoU from which on a detection of the same class finds a true box."""


def choose_levels(levels: Sequence[Level]) -> list[Level]:
    """Return the dense level, and up to three of the first method with evenly spaced amounts.

    All are of the first engine, and fine-tuned where the sweep trains.
    """
    engine = levels[0].engine
    dense, *pruned = (level for level in levels if level.engine == engine)
    first = [one for one in pruned if (one.method, one.stage) == (pruned[0].method, pruned[-1].stage)]
    count = len(first)
    if count <= LEVELS:
        return [dense, *first]
    return [dense, *(first[count * (2 * number + 1) // (2 * LEVELS)] for number in range(LEVELS))]


def make_examples(folder: Path, levels: Sequence[Level], dataset: Dataset) -> list[Example]:
    """Return examples of finished levels, by their files in the sweep's folder.

    They are the images whose loss of recall is nearest to the median: the share of the true boxes that the
    dense network finds and pruned levels do not, averaged over these. Of about equal ones, those with the
    usual number of true boxes come first. [] where no level is pruned, or the dense network finds nothing.
    """
    chosen = choose_levels(levels)
    if len(chosen) < 2:
        return []
    images = [image for image in dataset.images if len(image.labels)]
    true = {image.image_id: _true_boxes(image, dataset) for image in images}
    seen = [_Seen.read(folder / "levels" / level.key / PREDICTIONS, true, dataset) for level in chosen]
    losses = {}
    for image in images:
        dense, *others = (level.hits[image.image_id] for level in seen)
        if dense:
            losses[image.image_id] = 1 - float(np.mean([len(dense & other) / len(dense) for other in others]))
    if not losses:
        return []
    middle, usual = np.median([*losses.values()]), np.median([len(true[i]) for i in losses])
    near = sorted(losses, key=lambda i: (_steps(losses[i] - middle), abs(len(true[i]) - usual), i))[:IMAGES]
    paths = {image.image_id: str(image.path.absolute()) for image in images}
    return [
        Example(
            paths[i],
            true[i],
            tuple(_panel(i, *one, seen[0], true[i]) for one in zip(chosen, seen, strict=True)),
        )
        for i in sorted(near, key=lambda i: losses[i])
    ]


def _steps(difference: float) -> int:
    """Return a difference of losses in whole steps, so that images with few true boxes are near, too."""
    return round(abs(difference) / STEP)


def _panel(image: int, level: Level, seen: _Seen, dense: _Seen, true: Sequence[Box]) -> Panel:
    lost = tuple(true[number] for number in sorted(dense.hits[image] - seen.hits[image]))
    title = level.label if level.amount else "dense"
    return Panel(title, len(seen.hits[image]), seen.found[image], lost)


@dataclass(frozen=True)
class _Seen:
    """What a level detects. found: by image id. hits: by image id, the numbers of the true boxes it finds."""

    found: Mapping[int, tuple[Box, ...]]
    hits: Mapping[int, frozenset[int]]

    @classmethod
    def read(cls, file: Path, true: Mapping[int, Sequence[Box]], dataset: Dataset) -> _Seen:
        """Read the predictions.json of a level."""
        classes = {category: number for number, category in enumerate(dataset.category_ids)}
        rows: dict[int, list[Box]] = {image: [] for image in true}
        results = Results.read(file)
        results = results[results.scores >= LEAST_SCORE]
        for row in sorted(results.rows(), key=lambda row: -row["score"]):
            if row["image_id"] in rows:
                x, y, width, height = row["bbox"]
                number = classes[row["category_id"]]
                box = Box((x, y, x + width, y + height), number, dataset.names[number])
                rows[row["image_id"]].append(box)
        hits = {image: _hits(rows[image], boxes) for image, boxes in true.items()}
        return cls({image: tuple(boxes) for image, boxes in rows.items()}, hits)


def _hits(found: Sequence[Box], true: Sequence[Box]) -> frozenset[int]:
    """Return the numbers of the true boxes that are found, each by one detection. found: best score first."""
    if not found:
        return frozenset()
    overlap = box_iou_xyxy(*(torch.tensor([box.corners_xyxy for box in boxes]) for boxes in (found, true)))
    hits: set[int] = set()
    for box, row in zip(found, overlap.tolist(), strict=True):
        free = [n for n, one in enumerate(true) if n not in hits and one.number == box.number]
        best = max(free, key=lambda n: row[n], default=None)
        if best is not None and row[best] >= LEAST_IOU:
            hits.add(best)
    return frozenset(hits)


def _true_boxes(image: DatasetImage, dataset: Dataset) -> tuple[Box, ...]:
    centre, half = image.labels.boxes_cxcywhn[:, :2], image.labels.boxes_cxcywhn[:, 2:] / 2
    corners = np.concatenate((centre - half, centre + half), 1) * np.array([image.width, image.height] * 2)
    return tuple(
        Box(tuple(corner), int(number), dataset.names[int(number)])
        for corner, number in zip(corners.tolist(), image.labels.classes.tolist(), strict=True)
    )
