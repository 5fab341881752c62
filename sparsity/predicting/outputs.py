"""The files of a prediction: drawn pictures and videos, labels, crops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from sparsity.base.box_drawing import check_thickness
from sparsity.base.errors import InputError
from sparsity.base.files import replacing, write_text, writing_into
from sparsity.predicting.detections import Detections
from sparsity.predicting.panels import side_by_side
from sparsity.predicting.sources import FileName
from sparsity.predicting.video_writing import SUFFIX as VIDEO

LOSSLESS, LOSSY = ".png", ".jpg"
KEPT = frozenset({".jpeg", LOSSY, LOSSLESS})
"""The suffixes under which pictures are written. Others get .jpg in addition."""
MOST_JPEG_SIDE = 65_000
"""JPEG has at most 65,500 pixels on a side; a larger picture becomes a .png."""
QUALITY = 90
LABELS, CROPS = "labels", "crops"


@dataclass(frozen=True)
class Wanted:
    """What is written, and how it is drawn.

    pictures: drawn pictures and videos. labels: a label file for each picture with detections; scores: with
    their scores. crops: what is in each box. line_thickness, hide_labels, hide_conf: as in Detections.plot.
    """

    pictures: bool = True
    labels: bool = False
    scores: bool = False
    crops: bool = False
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_conf: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for what does not go together, and for a line_thickness below 1."""
        check_thickness(self.line_thickness)
        if self.scores and not self.labels:
            raise InputError("`save_conf` writes into label files, and there are none; give `save_txt`, too")


class Outputs:
    """Writes what networks find into a folder. titles: of the networks, all different."""

    def __init__(self, folder: Path, wanted: Wanted, titles: Sequence[str]) -> None:
        self.folder, self.wanted, self.titles = folder, wanted, tuple(titles)

    def draw(self, pixels: np.ndarray, found: Sequence[Detections]) -> Image.Image:
        """Return a picture with what each network found, side by side where there are several."""
        look = self.wanted
        drawn = [
            one.draw(
                pixels,
                line_thickness=look.line_thickness,
                hide_labels=look.hide_labels,
                hide_conf=look.hide_conf,
            )
            for one in found
        ]
        if len(drawn) == 1:
            return drawn[0]
        titles = [f"{title}: {len(one)} found" for title, one in zip(self.titles, found, strict=True)]
        return side_by_side(drawn, titles)

    def write_picture(self, name: FileName, pixels: np.ndarray, found: Sequence[Detections]) -> None:
        """Write the drawn picture, its labels and crops. Raises InputError where they can't be written."""
        if self.wanted.pictures:
            image = self.draw(pixels, found)
            with writing_into(self.folder):
                write_image(self.folder / picture_path(name.picture, image.size), image)
        self.write_details(name, pixels, found)

    def write_details(
        self, name: FileName, pixels: np.ndarray, found: Sequence[Detections], frame: int = 0
    ) -> None:
        """Write labels and crops, if they are wanted. frame: its number in a video, from 1; 0 for a picture.

        Raises InputError where they can't be written.
        """
        if frame:
            name = replace(name, label=name.label.with_name(f"{name.label.name}_{frame}"))
        for title, one in zip(self.titles, found, strict=True):
            part = PurePath() if len(self.titles) == 1 else PurePath(as_file_name(title))
            with writing_into(self.folder):
                if self.wanted.labels and len(one):
                    self._write_labels(LABELS / part / name.label, one)
                if self.wanted.crops:
                    self._write_crops(CROPS / part, name.label, one, pixels)

    def _write_labels(self, place: PurePath, found: Detections) -> None:
        path = self.folder / place.with_name(f"{place.name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, found.to_labels(with_scores=self.wanted.scores))

    def _write_crops(self, place: PurePath, label: PurePath, found: Detections, pixels: np.ndarray) -> None:
        for number, (name, crop) in enumerate(found.crops(pixels), 1):
            file = label.with_name(f"{label.name}_{number}{LOSSY}")
            write_image(self.folder / place / as_file_name(name) / file, Image.fromarray(crop))


def picture_path(source: PurePath, size: tuple[int, int]) -> PurePath:
    """Return the path of a drawn picture. size: its width and height."""
    if max(size) > MOST_JPEG_SIDE:
        return source if source.suffix.lower() == LOSSLESS else source.with_name(source.name + LOSSLESS)
    return source if source.suffix.lower() in KEPT else source.with_name(source.name + LOSSY)


def video_path(source: PurePath) -> PurePath:
    """Return the path of a drawn video."""
    return source if source.suffix.lower() == VIDEO else source.with_name(source.name + VIDEO)


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture in the format of its suffix, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = path.suffix.lower() == LOSSLESS
    with replacing(path, durable=False) as temporary:
        image.save(temporary, "PNG" if lossless else "JPEG", **({} if lossless else {"quality": QUALITY}))


def as_file_name(text: str) -> str:
    """Return text as the name of a file: what a file system may not take becomes an underscore."""
    return re.sub(r"[^\w .()+-]", "_", text).strip(" .") or "_"
