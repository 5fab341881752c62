"""Titles: what a run was made of, and lines that fit into a figure."""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from sparsity.base.files import encodable

DEMO = "demo"
"""The name that stands for the demo's weights and data."""
TITLE_SIZE = 11.0
"""The font size of a figure's title, in points."""
CHARACTER = 0.64
"""The mean width of a character, in units of the font size. It is rounded up, so that no title is clipped."""
MOST_LINES = 3


def describe_run(weights: str, data: str, images: int) -> str:
    """Return the title of a run: the network's file and the data.

    weights, data: as the user gave them; "demo" stands for the demo's. images: the number of images.
    """
    network = "the demo's yolov5n" if weights == DEMO else Path(weights).name or "network"
    if data != DEMO:
        return f"{network} on {Path(data).name or 'its data'}"
    owner = "its" if weights == DEMO else "the demo's"
    return f"{network} on {owner} {images} drawn images"


def set_title(figure: Figure, title: str) -> None:
    """Write the title above the figure, in at most three lines that fit into its width."""
    most = max(20, int(figure.get_figwidth() * 72 / (CHARACTER * TITLE_SIZE)))
    lines = textwrap.wrap(encodable(title), most, max_lines=MOST_LINES, placeholder=" ...")
    figure.suptitle("\n".join(lines), fontsize=TITLE_SIZE, parse_math=False)
