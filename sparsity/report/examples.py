"""Pictures for a sweep's page: what its levels detect in typical images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from sparsity.base.box_drawing import Colour, DrawnBox, colour_of, draw_boxes
from sparsity.report.rendering import embed
from sparsity.sweeping.example import Box, Example, Panel, read_examples

SIDE, QUALITY = 420, 72
"""The longer side of a picture in pixels, and the quality of its JPEG: the page stays small."""
TRUE, LOST = (255, 255, 255), (255, 220, 0)
"""The colours of true boxes, and of those that a level has lost."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page. link: holds the JPEG. caption: the level, and how many true boxes it finds."""

    link: str
    caption: str


def draw_examples(folder: Path) -> list[list[Picture]]:
    """Return the pictures of each example of a sweep: the dense network first.

    An example whose image can't be read is left out; it may have been moved.
    """
    drawn = []
    for example in read_examples(folder):
        try:
            with Image.open(example.path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        width = upright.width
        upright.thumbnail((SIDE, SIDE))
        pixels, scale = np.asarray(upright), upright.width / width
        drawn.append([_picture(pixels, scale, example, panel) for panel in example.panels])
    return drawn


def _picture(pixels: np.ndarray, scale: float, example: Example, panel: Panel) -> Picture:
    """Draw what a level detects, over the true boxes. scale: of the pixels, relative to the file's."""
    boxes = [_drawn(box, scale, colour_of(box.number), box.name) for box in panel.found]
    boxes += [_drawn(box, scale, LOST, box.name, style="dashed") for box in panel.lost]
    boxes += [_drawn(box, scale, TRUE, style="faint") for box in example.true]
    content = io.BytesIO()
    draw_boxes(pixels, boxes).save(content, "JPEG", quality=QUALITY)
    lost = f", {len(panel.lost)} lost" if panel.lost else ""
    caption = f"{panel.title}: {panel.true} of {len(example.true)} found{lost}"
    return Picture(embed(content.getvalue(), "image/jpeg"), caption)


def _drawn(
    box: Box,
    scale: float,
    colour: Colour,
    label: str = "",
    style: Literal["solid", "faint", "dashed"] = "solid",
) -> DrawnBox:
    x1, y1, x2, y2 = (corner * scale for corner in box.corners_xyxy)
    return DrawnBox((x1, y1, x2, y2), colour, label, style)
