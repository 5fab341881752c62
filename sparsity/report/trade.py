"""The plot of AP against latency, with labels that do not run into each other."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sparsity.report.columns import DENSE, distinct_rows
from sparsity.report.styles import COLOURS, LINES, MARKERS, legend_below, pick, spread
from sparsity.sweeping.table import by_series

FROM_ZERO = 0.6
"""AP starts at 0 unless the lowest AP is at least this share of the highest."""
WIDE = 8.0
"""Latency is drawn on a logarithmic axis if the slowest level takes this many times the fastest."""
INCHES = (3.7, 3.2)
"""The assumed width and height of the plot itself, for placing labels."""
LABEL_SIZE = 7
LEAST_LABELLED = 0.03
"""The share of the highest AP below which points get no label. They lie on the axis, side by side."""
PLACES = ((4, 4), (4, -10), (-4, 4), (-4, -10), (10, -3), (-10, -3), (4, 13), (-4, 13), (4, -19), (-4, -19))
"""Offsets of a label from its point, in points. The first that is free is taken."""
Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""


def plot_trade(axis: Axes, frame: pd.DataFrame, size: int) -> None:
    """Plot AP against latency: a labelled point for each level, a line for each series."""
    for number, (name, rows) in enumerate(by_series(frame)):
        median, below, above = spread(rows, size)
        axis.errorbar(
            median,
            rows.AP,
            xerr=(below, above),
            color=pick(COLOURS, number),
            marker=pick(MARKERS, number),
            linestyle=pick(LINES, number),
            linewidth=0.7,
            markersize=5,
            elinewidth=0.7,
            label=name if (rows.amount > 0).any() else DENSE,
        )
    _set_limits(axis, frame, size)
    _label(axis, distinct_rows(frame), size)
    axis.set_xlabel(f"latency, ms per image at batch {size}")
    axis.set_ylabel("AP (COCO), 0 to 1")
    legend_below(axis)
    axis.set_title("Accuracy against latency (labels: sparsity)", fontsize=10)


def _set_limits(axis: Axes, frame: pd.DataFrame, size: int) -> None:
    """Set limits that leave room for labels on all sides."""
    fastest, slowest = (frame[f"latency_{part}_ms_b{size}"] / size for part in ("p10", "p90"))
    left, right = fastest.min(), slowest.max()
    if right > WIDE * left > 0:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        room = (right / left) ** 0.08
        axis.set_xlim(left / room, right * room)
    else:
        room = 0.08 * (right - left) or 0.5 * right or 1.0
        axis.set_xlim(max(0.0, left - room), right + room)
    low, high = max(0.0, frame.AP.min()), max(0.0, frame.AP.max()) or 1.0
    start = low - 0.15 * (high - low) if FROM_ZERO * high <= low < high else 0.0
    axis.set_ylim(max(0.0, start), high + 0.12 * (high - max(0.0, start)))


def _label(axis: Axes, rows: pd.DataFrame, size: int) -> None:
    """Label each point with its sparsity, where there is room."""
    to_axes = axis.transData + axis.transAxes.inverted()
    median = spread(rows, size)[0]
    shares = to_axes.transform(list(zip(median, rows.AP, strict=True)))
    points = [(x * INCHES[0] * 72, y * INCHES[1] * 72) for x, y in shares]
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for (x, y), value, amount in zip(points, zip(median, rows.AP, strict=True), rows.amount, strict=True):
        if value[1] < LEAST_LABELLED * rows.AP.max():
            continue
        text = f"{amount:.9g}" if amount else DENSE
        for dx, dy in PLACES:
            box = _box(x + dx, y + dy, text, leftwards=dx < 0)
            if _is_free(box, taken):
                taken.append(box)
                _annotate(axis, text, value, (dx, dy))
                break


def _annotate(axis: Axes, text: str, point: tuple[float, float], offset: tuple[int, int]) -> None:
    side = "right" if offset[0] < 0 else "left"
    axis.annotate(text, point, offset, textcoords="offset points", fontsize=LABEL_SIZE, ha=side)


def _box(x: float, y: float, text: str, *, leftwards: bool) -> Box:
    width = 0.62 * LABEL_SIZE * len(text)
    left = x - width if leftwards else x
    return left, y - 1, left + width, y + LABEL_SIZE


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    """Whether a label is inside the plot and overlaps nothing."""
    left, bottom, right, top = box
    inside = left >= 0 and bottom >= 0 and right <= INCHES[0] * 72 and top <= INCHES[1] * 72
    return inside and not any(
        left < other[2] and other[0] < right and bottom < other[3] and other[1] < top for other in taken
    )
