"""YOLO label files: one line for each box, class cx cy w h, normalised; or class and a polygon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsity.data.annotations import NO_LABELS, Labels


@dataclass(frozen=True)
class LabelTolerance:
    """The range of a box's cx, cy, w and h in a label file, normalised. They are compared in float32.

    A file with a value outside the range is corrupt.
    """

    low: float = 0.0
    high: float = 1.0

    def allows(self, box_cxcywhn: Sequence[float]) -> bool:
        """Whether all four values are in the range."""
        if all(self.low <= value <= self.high for value in box_cxcywhn):
            return True
        with np.errstate(over="ignore"):
            box = np.array(box_cxcywhn).astype(np.float32)
        return bool(((box >= np.float32(self.low)) & (box <= np.float32(self.high))).all())

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


YOLOV5 = LabelTolerance()
"""As YOLOv5 reads label files."""
YOLOV8 = LabelTolerance(-0.01, 1.01)
"""As ultralytics 8.4.190 reads label files."""


_MOST_CLASSES = 2**24
"""The table of a label file is float32, which holds whole numbers up to here."""


def label_path(image: Path) -> Path:
    """Return the label file of an image: the last images/ in its path becomes labels/, the suffix .txt."""
    parts = list(image.parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_labels(path: Path, nc: int | None, tolerance: LabelTolerance = YOLOV5) -> Labels:
    """Read a label file. Exact duplicates are dropped.

    nc: the number of classes; None accepts any. tolerance: the range of coordinates.
    Raises ValueError, with the line and the reason, where the file is corrupt, and FileNotFoundError where it
    is missing.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                rows.append(_row(line.split(), nc, tolerance))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not rows:
        return NO_LABELS
    table = np.array(rows, np.float32)
    return Labels(table[:, 0].astype(np.int64), table[:, 1:]).without_duplicates()


def _row(words: list[str], nc: int | None, tolerance: LabelTolerance) -> list[float]:
    values = [float(word) for word in words]
    label, shape = values[0], values[1:]
    if len(shape) > 5 and len(shape) % 2 == 0:
        shape = _box_around(shape)
    if len(shape) != 4:
        raise ValueError(f"{len(values)} values; 5 are expected (class cx cy w h), or a polygon")
    if not (0 <= label < (_MOST_CLASSES if nc is None else nc) and label.is_integer()):
        known = "a whole number" if nc is None else f"0 to {nc - 1}"
        raise ValueError(f"class {words[0]}; {known} is expected")
    if not (all(map(math.isfinite, values)) and tolerance.allows(shape)):
        raise ValueError(f"a coordinate is outside {tolerance}; normalised coordinates are expected")
    return [label, *shape]


def _box_around(polygon: list[float]) -> list[float]:
    xs, ys = polygon[0::2], polygon[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return [(max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, width, height]
