"""Plots of a sweep, legible in greyscale too."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sparsity.base.files import replacing
from sparsity.report.columns import DENSE
from sparsity.report.styles import COLOURS, LINES, MARKERS, STYLE, legend_below, pick, spread
from sparsity.report.titles import set_title
from sparsity.report.trade import plot_trade
from sparsity.sweeping.table import batch_sizes, by_method, by_series, timed_once

MOST_WITH_AP50 = 2
"""The largest number of methods for which AP50 is drawn too. With more, AP50 would hide AP."""
DPI = 150
ASIDE = 0.006
"""The horizontal distance between lines or bars at one sparsity, so that their spreads do not overlap."""
PANEL = (4.6, 4.2)
"""The width and height of a panel, in inches, without its legend."""
LEGEND_LINE = 0.17
"""The height of a line of a legend, in inches."""
Panel = Callable[[Axes], None]


def plot_sweep(frame: pd.DataFrame, title: str, published: Sequence[dict[str, Any]] = ()) -> Figure:
    """Return plots of AP against sparsity, latency against sparsity, and AP against latency, side by side.

    Without latency, there is only the first. published: rows to mark in the first plot, with amount, AP,
    weights and data.
    """
    panels = list(_panels(frame, published).values())
    with mpl.rc_context(STYLE):
        size = (PANEL[0] * len(panels), PANEL[1] + _legend_height(frame))
        figure = Figure(figsize=size, layout="constrained")
        for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            panel(axis)
        set_title(figure, title)
        _describe_setup(figure, frame)
    return figure


def plot_panels(frame: pd.DataFrame, published: Sequence[dict[str, Any]] = ()) -> dict[str, Figure]:
    """Return the plots of plot_sweep as figures of their own, by what they show."""
    figures = {}
    with mpl.rc_context(STYLE):
        for name, panel in _panels(frame, published).items():
            size = (PANEL[0], PANEL[1] + _legend_height(frame))
            figures[name] = Figure(figsize=size, layout="constrained")
            panel(figures[name].subplots())
            _describe_setup(figures[name], frame)
    return figures


def _panels(frame: pd.DataFrame, published: Sequence[dict[str, Any]]) -> dict[str, Panel]:
    sizes = batch_sizes(frame)
    panels: dict[str, Panel] = {"AP against sparsity": lambda axis: _plot_accuracy(axis, frame, published)}
    if sizes:
        panels["latency against sparsity"] = lambda axis: _plot_latency(axis, frame, sizes)
        panels["AP against latency"] = lambda axis: plot_trade(axis, frame, sizes[0])
    return panels


def _legend_height(frame: pd.DataFrame) -> float:
    """Return the height of the longest legend, in inches. It has a line for each series and batch size."""
    methods, series = len(by_method(frame)), len(by_series(frame)) * max(1, len(batch_sizes(frame)))
    lines = max(methods * (1 + (methods <= MOST_WITH_AP50)), series)
    return LEGEND_LINE * (lines + 1)


def _describe_setup(figure: Figure, frame: pd.DataFrame) -> None:
    first = frame.iloc[0]
    text = f"{first.device}, {first.precision}, {first.imgsz} px, {first.images} images"
    width = int(figure.get_figwidth() * 72 / 4.5)
    figure.supxlabel(textwrap.fill(text, width), fontsize=8, parse_math=False)


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
        set_title(figure, title)
    return figure


def svg_of(figure: Figure) -> bytes:
    """Return a figure as an SVG. The same figure gives the same bytes."""
    content = io.BytesIO()
    _draw(figure, content, "svg")
    return content.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, completely or not at all."""
    with replacing(path) as temporary:
        _draw(figure, temporary, path.suffix.removeprefix("."))


def _draw(figure: Figure, target: Path | io.BytesIO, kind: str) -> None:
    with mpl.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # missing glyphs of a title are drawn as boxes
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=DPI, metadata=metadata, facecolor="white")


def _plot_accuracy(axis: Axes, frame: pd.DataFrame, published: Sequence[dict[str, Any]]) -> None:
    methods = by_method(frame)
    for number, (method, rows) in enumerate(methods):
        method = method if (rows.amount > 0).any() else DENSE
        style = {"color": pick(COLOURS, number), "marker": pick(MARKERS, number)}
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
    _sparsity_axis(axis, frame)
    axis.set_ylabel("AP (COCO), 0 to 1")
    axis.set_ylim(bottom=0)
    legend_below(axis)
    bars = " (bars: 95% interval of the change)" if "AP_change_low" in frame else ""
    axis.set_title(f"Accuracy{bars}", fontsize=10)


def _plot_latency(axis: Axes, frame: pd.DataFrame, sizes: Sequence[int]) -> None:
    for number, (name, rows) in enumerate(by_series(timed_once(frame))):
        colour = pick(COLOURS, number)
        for order, size in enumerate(sizes):
            median, below, above = spread(rows, size)
            axis.errorbar(
                rows.amount + ASIDE * (number * len(sizes) + order - 0.5),
                median,
                (below, above),
                color=colour,
                marker=pick(MARKERS, number),
                linestyle=pick(LINES, order),
                markerfacecolor=colour if order == 0 else "white",
                capsize=2,
                label=f"batch {size}, {name}",
            )
    _sparsity_axis(axis, frame)
    axis.set_ylabel("latency, ms per image")
    axis.set_ylim(bottom=0)
    legend_below(axis)
    axis.set_title("Latency (median, 10th to 90th percentile)", fontsize=10)


def _sparsity_axis(axis: Axes, frame: pd.DataFrame) -> None:
    only_weights = (frame.budget == "weights").all()
    of = "the convolutions' weights" if only_weights else "weights; with flops, of multiply-adds"
    axis.set_xlabel(f"sparsity of {of}")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlim(-0.03, max(0.1, math.ceil(axis.get_xlim()[1] * 10) / 10))
