"""What was detected in one picture, in pixels of the picture, and the forms in which others take it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sparsity.base.box_drawing import DrawnBox, colour_of, draw_boxes
from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.evaluation.results import Results
from sparsity.predicting.pictures import Picture


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections in one picture, best score first.

    boxes_xyxy: float32 [n, 4], in pixels of the original picture, upright as its EXIF data require.
    scores: float32 [n]. classes: int64 [n]. names: the names of all classes. size: the picture's (width,
    height). picture: the file or the pixels that they were found in.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]
    picture: Picture = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def found(self) -> list[str]:
        """The class name of each detection."""
        return [self.names[number] for number in self.classes.tolist()]

    def describe(self) -> str:
        """Return how many of each class there are: "4 person, 1 bus", the most first; "nothing" for none."""
        counted = Counter(self.found).most_common()
        return ", ".join(f"{count} {name}" for name, count in counted) or "nothing"

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each detection: xmin, ymin, xmax, ymax in pixels, confidence, class, name."""
        frame = pd.DataFrame(self.boxes_xyxy, columns=["xmin", "ymin", "xmax", "ymax"])
        return frame.assign(confidence=self.scores, **{"class": self.classes}, name=self.found)

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return COCO results: image_id, category_id, bbox (x, y, width, height in pixels), score.

        category_ids: the id of each class; None for the class's number + 1. Raises InputError for another
        number of ids than there are classes.
        """
        ids = range(1, len(self.names) + 1) if category_ids is None else category_ids
        if len(ids) != len(self.names):
            raise InputError(f"`category_ids` has {len(ids)} ids; {len(self.names)} are expected")
        chosen = [ids[number] for number in self.classes.tolist()]
        images = np.full(len(self.scores), image_id)
        return Results.of(images, np.array(chosen, np.int64), self.boxes_xyxy, self.scores).rows()

    def to_supervision(self) -> Any:
        """Return a supervision.Detections, with the names as data["class_name"].

        Raises InputError where the package supervision is missing.
        """
        supervision = optional_module("supervision", "`to_supervision`")
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            confidence=self.scores,
            class_id=self.classes,
            data={"class_name": np.array(self.found, dtype=str)},
        )

    def to_labels(self, *, with_scores: bool = False) -> str:
        """Return the lines of a label file: class cx cy w h, normalised, and the score if with_scores."""
        low, high = self.boxes_xyxy[:, :2].astype(float), self.boxes_xyxy[:, 2:].astype(float)
        boxes_cxcywhn = np.concatenate(((low + high) / 2, high - low), 1) / np.array([*self.size, *self.size])
        rows = zip(self.classes.tolist(), boxes_cxcywhn.tolist(), self.scores.tolist(), strict=True)
        lines = ([number, *box, *([score] if with_scores else [])] for number, box, score in rows)
        return "".join(" ".join(f"{value:.6g}" for value in line) + "\n" for line in lines)

    def plot(
        self, *, line_thickness: int | None = None, hide_labels: bool = False, hide_conf: bool = False
    ) -> Image.Image:
        """Return the picture with boxes, class names and scores. Lines and text scale with the picture.

        line_thickness: in pixels; None to scale it. hide_labels: draw boxes alone. hide_conf: draw no scores.
        A picture whose longer side is below 320 pixels is enlarged by a whole factor, to be legible.
        Raises InputError where the picture's file can't be read any more.
        """
        return self.draw(
            self.picture.read(), line_thickness=line_thickness, hide_labels=hide_labels, hide_conf=hide_conf
        )

    def draw(
        self,
        pixels: np.ndarray,
        *,
        line_thickness: int | None = None,
        hide_labels: bool = False,
        hide_conf: bool = False,
    ) -> Image.Image:
        """Return other pixels of the same size, uint8 [height, width, 3] RGB, with what plot draws."""
        boxes = zip(self.boxes_xyxy.tolist(), self.classes.tolist(), self.scores.tolist(), strict=True)
        drawn = []
        for corners, number, score in boxes:
            label = self.names[number] if hide_conf else f"{self.names[number]} {score:.2f}"
            drawn.append(DrawnBox(tuple(corners), colour_of(number), "" if hide_labels else label))
        return draw_boxes(pixels, drawn, line_thickness)

    def crops(self, pixels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the class name and the pixels of each box, at least one pixel wide and high.

        pixels: of the picture, uint8 [height, width, 3] RGB.
        """
        height, width = pixels.shape[:2]
        for name, (x1, y1, x2, y2) in zip(self.found, self.boxes_xyxy.tolist(), strict=True):
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(left + 1, round(x2)), max(top + 1, round(y2))
            yield name, pixels[top:bottom, left:right]
