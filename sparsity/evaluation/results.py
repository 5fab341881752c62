"""Detections in COCO's results format, as arrays: a dict for each takes ten times the memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_KEYS = ('{"image_id": ', ', "category_id": ', ', "bbox": [', '], "score": ', "}")
"""What stands around the numbers of a row, as json.dumps writes it."""
_ROW = "".join(map("".join, zip(_KEYS, ("%d", "%d", "%d%s, %d%s, %d%s, %d%s", "%s", ""), strict=True)))
"""A row: of a box's sides, the whole part and the decimals."""
_NUMBERS = 7
"""The numbers of a row."""
ARRAYS = ".npz"
"""The suffix of files that hold the arrays as they are."""
SCORES = 100_000
"""The scores of five decimals up to 1."""
LONGEST = 10**6
"""The largest side in pixels that is written from a table."""
_BLOCK = 10_000
"""The rows that are text, or dicts, at a time."""


@dataclass(frozen=True)
class Results:
    """Detections: image_ids [n], category_ids [n], boxes_xywh [n, 4] in pixels, and scores [n].

    Boxes are rounded to 3 decimals and scores to 5, as predictions.json has them. Detections of an image
    stand best first.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(
        cls, image_ids: np.ndarray, category_ids: np.ndarray, boxes_xyxy: np.ndarray, scores: np.ndarray
    ) -> Results:
        """Return the results of boxes by their corners, [n, 4], with scores of any precision."""
        boxes = boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return cls(
            np.asarray(image_ids, np.int64),
            np.asarray(category_ids, np.int64),
            boxes.round(3),
            scores.astype(np.float64).round(5),
        )

    @classmethod
    def of_rows(cls, rows: Sequence[dict[str, Any]]) -> Results:
        """Return the results of dicts, as predictions.json has them."""
        return cls(
            np.array([row["image_id"] for row in rows], np.int64),
            np.array([row["category_id"] for row in rows], np.int64),
            np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4),
            np.array([row["score"] for row in rows], np.float64),
        )

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a predictions.json, or a file that save wrote.

        A predictions.json that write_lines wrote is read without a dict for each detection. Raises OSError,
        or ValueError, KeyError or TypeError for a file of another form.
        """
        if path.suffix == ARRAYS:
            with np.load(path) as arrays:
                return cls(*(arrays[one.name] for one in fields(cls)))
        text = path.read_text(encoding="utf-8")
        numbers = _numbers(text)
        if numbers is None:
            return cls.of_rows(json.loads(text))
        return cls(
            numbers[:, 0].astype(np.int64),
            numbers[:, 1].astype(np.int64),
            np.ascontiguousarray(numbers[:, 2:6]),
            np.ascontiguousarray(numbers[:, 6]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | slice) -> Results:
        """Return some of the results: a mask, indices or a slice."""
        return Results(
            self.image_ids[which], self.category_ids[which], self.boxes_xywh[which], self.scores[which]
        )

    def save(self, path: Path) -> None:
        """Write the arrays to a file with the suffix ARRAYS, for another process."""
        with path.open("wb") as file:
            np.savez(file, **{one.name: getattr(self, one.name) for one in fields(self)})

    def rows(self) -> list[dict[str, Any]]:
        """Return COCO results, a dict for each detection: image_id, category_id, bbox xywh, score."""
        columns = (self.image_ids, self.category_ids, self.boxes_xywh, self.scores)
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*(one.tolist() for one in columns), strict=True)
        ]

    def write_lines(self) -> Iterator[str]:
        """Yield the text of predictions.json, in parts: JSON as json.dumps writes the rows.

        Raises ValueError for a number that is not finite, which JSON can't hold.
        """
        yield "["
        for start in range(0, len(self), _BLOCK):
            block = self[start : start + _BLOCK]
            yield (", " if start else "") + (_text(block) or json.dumps(block.rows(), allow_nan=False)[1:-1])
        yield "]\n"


@cache
def _decimals() -> tuple[list[str], list[str]]:
    """Return the text of 0.000 to 0.999 from the point on, and that of 0.00000 to 1.00000."""
    return [repr(i / 1000)[1:] for i in range(1000)], [repr(i / SCORES) for i in range(SCORES + 1)]


def _text(block: Results) -> str:
    """Return the rows as json.dumps writes them, from tables of decimals; "" where a number is in none.

    The shortest text of a number of three decimals is its whole part and these decimals.
    """
    boxes, scores = np.rint(block.boxes_xywh * 1000), np.rint(block.scores * SCORES)
    rounded = np.array_equal(boxes / 1000, block.boxes_xywh) and np.array_equal(scores / SCORES, block.scores)
    signed = np.signbit(boxes).any() or np.signbit(scores).any()  # The tables have no -0.0 either.
    if not rounded or signed or boxes.max() > LONGEST * 1000 or scores.max() > SCORES:
        return ""
    parts, texts = _decimals()
    whole, part = np.divmod(boxes.astype(np.int64), 1000)
    x, y, w, h = whole.T.tolist()
    dx, dy, dw, dh = ([parts[i] for i in column] for column in part.T.tolist())
    score = [texts[i] for i in scores.astype(np.int64).tolist()]
    ids = block.image_ids.tolist(), block.category_ids.tolist()
    rows = zip(*ids, x, dx, y, dy, w, dw, h, dh, score, strict=True)
    return ", ".join([_ROW % row for row in rows])


def _numbers(text: str) -> np.ndarray | None:
    """Return the numbers [n, 7] of a text that write_lines wrote; None for another text."""
    body = text.strip()
    if not body.startswith("[{") or not body.endswith("}]"):
        return None
    rows = body.count(_KEYS[0])
    body = body[1:-1].replace("}, {", "}{")
    for key in _KEYS:
        body = body.replace(key, ",")
    body = body.replace(",,", ",").strip(",")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns of a text that is not numbers only.
            found = np.fromstring(body, sep=",")
    except (ValueError, DeprecationWarning):
        return None
    return found.reshape(rows, _NUMBERS) if len(found) == rows * _NUMBERS else None
