"""Pictures side by side, each under a line of text."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from sparsity.base.box_drawing import font_of, font_size, shorten

GROUND, TEXT = (32, 32, 32), (255, 255, 255)
PLEASANT = 4 / 3
"""Width / height that the whole comes near to."""


def side_by_side(images: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Return one picture of several of the same size: in a row, or in a column where they are wide."""
    width, height = images[0].size
    font = font_of(font_size((width, height)))
    line = round(1.6 * font.size)
    count = len(images)
    row, column = width * count / (height + line), width / ((height + line) * count)
    in_a_row = max(row / PLEASANT, PLEASANT / row) <= max(column / PLEASANT, PLEASANT / column)
    across, down = (count, 1) if in_a_row else (1, count)
    whole = Image.new("RGB", (width * across, (height + line) * down), GROUND)
    draw = ImageDraw.Draw(whole)
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = (width * index, 0) if in_a_row else (0, (height + line) * index)
        text = shorten(title, font, width - font.size)
        draw.text((left + font.size // 2, top + line // 2), text, fill=TEXT, font=font, anchor="lm")
        whole.paste(image, (left, top + line))
    return whole
