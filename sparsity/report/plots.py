"""Plots of a sweep, legible in greyscale too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sparsity.base.files import replacing
from sparsity.sweeping.table import batch_sizes, by_method, by_series

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
MOST_WITH_AP50 = 2
"""The largest number of methods for which AP50 is drawn too. With more, AP50 would hide AP."""
DPI = 150
ASIDE = 0.006
"""The horizontal distance between lines or bars at one sparsity, so that their spreads do not overlap."""
LEAST_LABELLED = 0.05
"""The share of the highest AP below which points get no label, because they overlap."""


def plot_sweep(frame: pd.DataFrame, title: str, published: Sequence[dict[str, Any]] = ()) -> Figure:
    """Return plots of AP against sparsity, latency against sparsity, and AP against latency.

    Without latency, there is only the first. published: rows to mark in the first plot, with amount, AP,
    weights and data.
    """
    sizes = batch_sizes(frame)
    with mpl.rc_context(STYLE):
        columns = 3 if sizes else 1
        figure = Figure(figsize=(4.6 * columns, 4.2), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        _plot_accuracy(axes[0], frame, published)
        if sizes:
            _plot_latency(axes[1], frame, sizes)
            _plot_trade(axes[2], frame, sizes[0])
        first = frame.iloc[0]
        figure.suptitle(title, fontsize=11, parse_math=False)
        figure.supxlabel(
            f"{first.device}, {first.precision}, {first.imgsz} px, {first.images} images", fontsize=8
        )
    return figure


def plot_layers(layers: pd.DataFrame, title: str) -> Figure:
    """Return a plot of the sparsity of every Conv2d: a row for each amount, a panel for each method."""
    methods = list(dict.fromkeys(layers.method))
    names = list(dict.fromkeys(layers.name))
    amounts = sorted(set(layers.amount))
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        width = max(8.0, 0.13 * len(names) + 2)
        height = len(methods) * max(1.1, 0.26 * len(amounts) + 0.5) + 1.9
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(methods), 1, squeeze=False, sharex=True)[:, 0]
        for axis, method in zip(axes, methods, strict=True):
            rows = layers[layers.method == method]
            grid = rows.pivot_table(index="amount", columns="name", values="sparsity")
            image = axis.imshow(grid[names], aspect="auto", origin="lower", vmin=0, vmax=1, cmap="Greys")
            axis.set_yticks(range(len(grid)), [f"{amount:.9g}" for amount in grid.index])
            axis.set_ylabel(f"target sparsity\n{method}")
        axes[-1].set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes[-1].set_xlabel("Conv2d, in the network's order")
        figure.colorbar(image, ax=list(axes), label="zeros of the layer's weights", pad=0.01)
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, completely or not at all."""
    kind = path.suffix.removeprefix(".")
    with (
        mpl.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}),
        warnings.catch_warnings(),
        replacing(path) as temporary,
    ):
        warnings.filterwarnings("ignore", message="Glyph")  # missing glyphs of a title are drawn as boxes
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(temporary, format=kind, dpi=DPI, metadata=metadata, facecolor="white")


def _plot_accuracy(axis: Axes, frame: pd.DataFrame, published: Sequence[dict[str, Any]]) -> None:
    methods = by_method(frame)
    for number, (method, rows) in enumerate(methods):
        style = {"color": _of(COLOURS, number), "marker": _of(MARKERS, number)}
        axis.plot(rows.amount, rows.AP, "-", label=f"AP, {method}", **style)
        if "AP_change_low" in rows:
            pruned = rows[rows.amount > 0]
            low, high = (rows.AP.iloc[0] + pruned[f"AP_change_{end}"] for end in ("low", "high"))
            places = pruned.amount + ASIDE * (number - len(methods) / 2 + 0.5)
            axis.vlines(places, low.clip(lower=0), high, color=style["color"], alpha=0.45, linewidth=3)
        if len(methods) <= MOST_WITH_AP50:
            axis.plot(rows.amount, rows.AP50, ":", label=f"AP50, {method}", markerfacecolor="white", **style)
    if published:
        places = [row["amount"] for row in published], [row["AP"] for row in published]
        label = f"AP, guide ({published[0]['data']})"
        axis.plot(*places, "*", color="black", markersize=13, label=label, zorder=5)
    _sparsity_axis(axis)
    axis.set_ylabel("AP (COCO), 0 to 1")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    bars = " (bars: 95% interval of the change)" if "AP_change_low" in frame else ""
    axis.set_title(f"Accuracy{bars}", fontsize=10)


def _plot_latency(axis: Axes, frame: pd.DataFrame, sizes: Sequence[int]) -> None:
    for number, (name, rows) in enumerate(by_series(frame)):
        colour = _of(COLOURS, number)
        for order, size in enumerate(sizes):
            median, below, above = _spread(rows, size)
            axis.errorbar(
                rows.amount + ASIDE * (number * len(sizes) + order - 0.5),
                median,
                (below, above),
                color=colour,
                marker=_of(MARKERS, number),
                linestyle=_of(LINES, order),
                markerfacecolor=colour if order == 0 else "white",
                capsize=2,
                label=f"batch {size}, {name}",
            )
    _sparsity_axis(axis)
    axis.set_ylabel("latency, ms per image")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    axis.set_title("Latency (median, 10th to 90th percentile)", fontsize=10)


def _plot_trade(axis: Axes, frame: pd.DataFrame, size: int) -> None:
    for number, (name, rows) in enumerate(by_series(frame)):
        median, below, above = _spread(rows, size)
        axis.errorbar(
            median,
            rows.AP,
            xerr=(below, above),
            color=_of(COLOURS, number),
            marker=_of(MARKERS, number),
            linestyle="",
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
        for x, y, amount in zip(median, rows.AP, rows.amount, strict=True):
            if y >= LEAST_LABELLED * frame.AP.max() and (amount or number == 0):
                axis.annotate(f"{amount:.9g}", (x, y), (5, 4), textcoords="offset points", fontsize=7)
    axis.set_xlabel(f"latency, ms per image at batch {size}")
    axis.set_ylabel("AP (COCO), 0 to 1")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, title="method" if frame.engine.nunique() == 1 else "engine")
    axis.set_title("Accuracy against latency (labels: sparsity)", fontsize=10)


def _of(styles: Sequence[str], number: int) -> str:
    """Return the style with this number. The styles repeat if there are more series."""
    return styles[number % len(styles)]


def _spread(rows: pd.DataFrame, size: int) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the median latency per image, and the distances down to p10 and up to p90, in milliseconds."""
    median, p10, p90 = (rows[f"latency{part}_ms_b{size}"] / size for part in ("", "_p10", "_p90"))
    return median, median - p10, p90 - median


def _sparsity_axis(axis: Axes) -> None:
    axis.set_xlabel("sparsity of the convolutions' weights")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlim(-0.03, max(0.1, math.ceil(axis.get_xlim()[1] * 10) / 10))
