"""Report a comparison of techniques: a table, a CSV and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity.base.files import encodable, write_text, writing_into
from sparsity.comparing.row import ComparedRow
from sparsity.report.plots import COLOURS, STYLE, save

SHOWN = {
    "AP": ("AP", "{:.3f}"),
    "AP50": ("AP50", "{:.3f}"),
    "latency_ms": ("ms b1", "{:.1f}"),
    "latency_p10_ms": ("10%", "{:.1f}"),
    "latency_p90_ms": ("90%", "{:.1f}"),
    "peak_memory_mb": ("peak MB", "{:.0f}"),
    "file_mb": ("file MB", "{:.2f}"),
    "parameters": ("parameters", "{}"),
    "gflops": ("GFLOPs", "{:.2f}"),
    "sparsity": ("zeros", "{:.2f}"),
    "seconds": ("made in s", "{:.0f}"),
}


PANELS = {
    "AP": "AP (COCO), 0 to 1",
    "latency_ms": "ms per image",
    "file_mb": "file, 1e6 bytes",
    "peak_memory_mb": "peak memory, 1e6 bytes",
}


def write_comparison(folder: Path, rows: Sequence[ComparedRow], title: str, machine: str) -> None:
    """Write compare.csv and compare.png. machine: where the latency was measured."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    with writing_into(folder):
        write_text(folder / "compare.csv", encodable(frame.to_csv(index=False)))
        save(plot_comparison(frame, encodable(title), machine), folder / "compare.png")


def plot_comparison(frame: pd.DataFrame, title: str, machine: str) -> Figure:
    """Return a plot with a bar for each row: AP, latency (whisker: 10th to 90th percentile), size, memory."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 1.6 + 0.32 * len(frame)), layout="constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (column, label) in zip(panels, PANELS.items(), strict=True):
            _plot_bars(axis, frame, column, label)
        names = [f"{row.technique}, {row.engine}" for row in frame.itertuples()]
        panels[0].set_yticks(range(len(frame)), names)
        panels[0].invert_yaxis()
        figure.supxlabel(f"latency of one image on {machine}", fontsize=8)
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _plot_bars(axis: Axes, frame: pd.DataFrame, column: str, label: str) -> None:
    techniques = list(dict.fromkeys(frame.technique))
    colours = [COLOURS[techniques.index(name) % len(COLOURS)] for name in frame.technique]
    values, whiskers = frame[column], None
    if column == "latency_ms":
        whiskers = [values - frame.latency_p10_ms, frame.latency_p90_ms - values]
    style = {"error_kw": {"elinewidth": 0.8, "ecolor": "0.3"}}
    bars = axis.barh(range(len(frame)), values, height=0.7, color=colours, xerr=whiskers, **style)
    form = SHOWN[column][1]
    axis.bar_label(bars, [form.format(value) for value in values], fontsize=7, padding=3)
    axis.set_xlabel(label)
    axis.margins(x=0.25)
    axis.set_xlim(left=0)
    axis.grid(False, axis="y")


def format_comparison(rows: Sequence[ComparedRow]) -> str:
    """Return the table for the terminal, followed by the note of each technique."""
    table = [["technique", "engine", "file", *(head for head, _ in SHOWN.values())]]
    for row in rows:
        cells = (form.format(getattr(row, name)) for name, (_, form) in SHOWN.items())
        table.append([row.technique, row.engine, Path(row.file).suffix, *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in table
    ]
    notes = dict.fromkeys(f"{row.technique}: {row.note}." for row in rows)
    return "\n".join([*lines, "", *notes])
