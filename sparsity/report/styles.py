"""The look of plots: colours, markers, lines and legends, legible in greyscale too."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

STYLE = {
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sparsity",
}
COLOURS = ("#0b3c5d", "#d95f02", "#66a61e", "#7b3294", "#c9a227", "#c51b7d", "#4d9de0", "#6b4f2a")
"""The colours of methods and engines. Neighbours differ in greyscale too, and all have their own markers."""
MARKERS, LINES = "osD^vPX*", ("-", "--", "-.", ":")


def pick(styles: Sequence[str], number: int) -> str:
    """Return the style with this number. The styles repeat if there are more series."""
    return styles[number % len(styles)]


def spread(rows: pd.DataFrame, size: int) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the median latency per image, and the distances down to p10 and up to p90, in milliseconds."""
    median, p10, p90 = (rows[f"latency{part}_ms_b{size}"] / size for part in ("", "_p10", "_p90"))
    return median, median - p10, p90 - median


def legend_below(axis: Axes) -> None:
    """Draw the legend below the axis, where it covers no point."""
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8)
