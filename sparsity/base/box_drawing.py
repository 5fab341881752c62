"""Draws boxes with labels on pictures. Lines and text scale with the picture, and labels stay inside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sparsity.base.errors import InputError

Colour: TypeAlias = "tuple[int, int, int]"
Corners: TypeAlias = "tuple[float, float, float, float]"
"""x1, y1, x2, y2 in pixels."""
PALETTE: tuple[Colour, ...] = (
    *((230, 57, 70), (29, 120, 200), (46, 160, 67), (255, 159, 28), (131, 56, 200), (0, 175, 185)),
    *((240, 90, 170), (140, 200, 40), (120, 80, 50), (250, 210, 40), (60, 70, 160), (200, 110, 90)),
    *((0, 120, 100), (170, 130, 230), (255, 110, 60), (90, 130, 140), (180, 20, 120), (110, 220, 170)),
)
"""The colours of classes, by their number. They repeat if there are more classes."""
SMALLEST_SIDE = 320
"""A picture whose longer side is shorter, in pixels, is enlarged by a whole factor before it is drawn on."""
LEAST_FONT = 12
_FONT_SHARE, _LINE_SHARE = 1 / 50, 1 / 220
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw.

    corners_xyxy: in pixels of the picture. colour: of its line, and of the ground of its label.
    label: "" for none. style: solid; faint, a thin line of one pixel without outline; or dashed.
    """

    corners_xyxy: Corners
    colour: Colour
    label: str = ""
    style: Literal["solid", "faint", "dashed"] = "solid"


def colour_of(number: int) -> Colour:
    """Return the colour of a class."""
    return PALETTE[number % len(PALETTE)]


def draw_boxes(
    pixels: np.ndarray, boxes: Sequence[DrawnBox], line_thickness: int | None = None
) -> Image.Image:
    """Return the picture with boxes. The first box is the most important one: it is drawn last, on top.

    pixels: uint8 [height, width, 3] RGB. line_thickness: in pixels; None to scale it with the picture.
    A small picture is enlarged (see SMALLEST_SIDE). A label that does not fit in is shortened, or left out.
    Raises InputError for a line_thickness below 1.
    """
    check_thickness(line_thickness)
    height, width = pixels.shape[:2]
    scale = max(1, math.ceil(SMALLEST_SIDE / max(height, width)))
    image = Image.fromarray(pixels)
    if scale > 1:
        image = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    draw, size = ImageDraw.Draw(image), math.sqrt(image.width * image.height)
    thickness = line_thickness or max(2, round(size * _LINE_SHARE))
    placed = [(box, _scaled(box.corners_xyxy, scale, image.size)) for box in boxes]
    for box, corners in reversed(placed):
        _draw_line(draw, box, corners, thickness)
    font, taken = font_of(font_size(image.size)), []
    labels = [_place_label(box, corners, font, image.size, taken) for box, corners in placed]
    for box, label in reversed(list(zip(boxes, labels, strict=True))):
        if label is not None:
            _draw_label(draw, label, box.colour, font)
    return image


def check_thickness(line_thickness: int | None) -> None:
    """Raise InputError for a line_thickness below 1."""
    if line_thickness is not None and line_thickness < 1:
        raise InputError(f"`line_thickness` is {line_thickness}; a whole number from 1 on is expected")


def font_size(size: tuple[int, int]) -> int:
    """Return the size of the text on a picture of this (width, height), in pixels."""
    return max(LEAST_FONT, round(math.sqrt(size[0] * size[1]) * _FONT_SHARE))


@lru_cache(maxsize=16)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic and more. size: in pixels."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, or its beginning with an ellipsis, that is not wider than width; "" if none is."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        short = text[:length].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        if font.getlength(short) <= width:
            return short
    return ""


def contrasting(colour: Colour) -> Colour:
    """Return black or white, whichever differs more from a colour (by the luminance of ITU-R BT.601)."""
    red, green, blue = colour
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _WHITE


def _scaled(corners: Corners, scale: int, size: tuple[int, int]) -> Corners:
    """Return corners in the enlarged picture, clipped to its pixels."""
    ends = (size[0] - 1, size[1] - 1) * 2
    x1, y1, x2, y2 = (min(max(c * scale, 0), end) for c, end in zip(corners, ends, strict=True))
    return x1, y1, x2, y2


def _draw_line(draw: ImageDraw.ImageDraw, box: DrawnBox, corners: Corners, thickness: int) -> None:
    if box.style == "faint":
        draw.rectangle(corners, outline=box.colour, width=max(1, thickness // 2))
        return
    if box.style == "dashed":
        for line in _dashes(corners, 4 * thickness):
            draw.line(line, fill=box.colour, width=thickness)
        return
    # The outline separates the line from a ground of the same colour.
    edge = max(1, thickness // 3)
    x1, y1, x2, y2 = corners
    outer = (x1 - edge, y1 - edge, x2 + edge, y2 + edge)
    draw.rectangle(outer, outline=contrasting(box.colour), width=thickness + 2 * edge)
    draw.rectangle(corners, outline=box.colour, width=thickness)


def _dashes(corners: Corners, length: int) -> Iterator[Corners]:
    """Yield the dashes of a box's four sides."""
    x1, y1, x2, y2 = corners
    for begin in np.arange(x1, x2, 2 * length):
        for y in (y1, y2):
            yield begin, y, min(begin + length, x2), y
    for begin in np.arange(y1, y2, 2 * length):
        for x in (x1, x2):
            yield x, begin, x, min(begin + length, y2)


@dataclass(frozen=True)
class _Label:
    """A text, and its ground in pixels: left, top, width, height."""

    text: str
    left: float
    top: float
    width: float
    height: float

    def overlaps(self, other: _Label) -> bool:
        """Whether the grounds of two labels overlap."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return across > 0 and down > 0


def _place_label(
    box: DrawnBox,
    corners: Corners,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: list[_Label],
) -> _Label | None:
    """Return the label at a place of the box that no label in taken covers, and add it to them.

    Tried in turn: above the box, inside its top, below it, inside its bottom; at the left, then at the right.
    None if there is no text, or the picture is too small for any.
    """
    margin = max(1, font.size // 5)
    text = shorten(box.label, font, size[0] - 2 * margin)
    width, height = font.getlength(text) + 2 * margin, sum(font.getmetrics()) + margin
    if not text or height > size[1]:
        return None
    x1, y1, x2, y2 = corners
    tops = [y1 - height, y1, y2, y2 - height]
    wanted = [(left, top) for left in (x1, x2 - width) for top in tops]
    places = [
        _Label(text, _inside(left, width, size[0]), _inside(top, height, size[1]), width, height)
        for left, top in wanted
        if 0 <= top <= size[1] - height
    ] or [_Label(text, _inside(x1, width, size[0]), _inside(y1, height, size[1]), width, height)]
    free = (one for one in places if not any(one.overlaps(other) for other in taken))
    chosen = next(free, places[0])
    taken.append(chosen)
    return chosen


def _inside(start: float, length: float, end: float) -> float:
    return max(0.0, min(start, end - length))


def _draw_label(
    draw: ImageDraw.ImageDraw, label: _Label, colour: Colour, font: ImageFont.FreeTypeFont
) -> None:
    margin = max(1, font.size // 5)
    right, bottom = label.left + label.width - 1, label.top + label.height - 1
    draw.rectangle((label.left, label.top, right, bottom), fill=colour)
    draw.text((label.left + margin, label.top), label.text, fill=contrasting(colour), font=font)
