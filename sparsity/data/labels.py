"""YOLO label files: one line for each box, class cx cy w h, normalised; or class and a polygon."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparsity.data.annotations import NO_LABELS, Labels


def label_path(image: Path) -> Path:
    """Return the label file of an image: the last images/ in its path becomes labels/, the suffix .txt."""
    parts = list(image.parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_labels(path: Path, nc: int | None) -> Labels:
    """Read a label file. Exact duplicates are dropped.

    nc: the number of classes; None accepts any. Raises ValueError, with the line and the reason, where the
    file is corrupt, and FileNotFoundError where it is missing.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                rows.append(_row(line.split(), nc))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    if not rows:
        return NO_LABELS
    table = np.array(rows, np.float32)
    return Labels(table[:, 0].astype(np.int64), table[:, 1:]).without_duplicates()


def _row(words: list[str], nc: int | None) -> list[float]:
    values = [float(word) for word in words]
    label, shape = values[0], values[1:]
    if len(shape) > 5 and len(shape) % 2 == 0:
        shape = _box_around(shape)
    if len(shape) != 4:
        raise ValueError(f"{len(values)} values; 5 are expected (class cx cy w h), or a polygon")
    if not (label >= 0 and label.is_integer()) or (nc is not None and label >= nc):
        known = "a whole number" if nc is None else f"0 to {nc - 1}"
        raise ValueError(f"class {words[0]}; {known} is expected")
    if not all(0 <= value <= 1 for value in values[1:]):
        raise ValueError("a coordinate is outside 0 to 1; normalised coordinates are expected")
    return [label, *shape]


def _box_around(polygon: list[float]) -> list[float]:
    xs, ys = polygon[0::2], polygon[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return [(max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, width, height]
