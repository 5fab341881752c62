"""A comparison of techniques -> a table, a CSV and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity.comparing.rows import ComparedRow
from sparsity.files import encodable, write_text, writing_into
from sparsity.report.plots import COLOURS, MARKERS, STYLE, save

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


def write_comparison(folder: Path, rows: Sequence[ComparedRow], title: str, machine: str) -> None:
    """Write compare.csv and compare.png. machine: where the latency was taken."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    with writing_into(folder):
        write_text(folder / "compare.csv", encodable(frame.to_csv(index=False)))
        save(plot_comparison(frame, encodable(title), machine), folder / "compare.png")


def plot_comparison(frame: pd.DataFrame, title: str, machine: str) -> Figure:
    """AP against latency (10th to 90th percentile as a bar) and against file size, a point for each row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _plot_points(left, frame, "latency_ms", "latency, ms an image at batch 1")
        _plot_points(right, frame, "file_mb", "file, 1e6 bytes")
        left.set_ylabel("AP (COCO), 0 to 1")
        right.legend(frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
        figure.supxlabel(f"latency on {machine}", fontsize=8)
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _plot_points(axis: Axes, frame: pd.DataFrame, column: str, label: str) -> None:
    techniques = list(dict.fromkeys(frame.technique))
    engines = list(dict.fromkeys(frame.engine))
    for row in frame.itertuples():
        x, bar = getattr(row, column), None
        if column == "latency_ms":
            bar = [[x - row.latency_p10_ms], [row.latency_p90_ms - x]]
        axis.errorbar(
            x,
            row.AP,
            xerr=bar,
            linestyle="",
            elinewidth=0.8,
            markersize=9,
            color=COLOURS[techniques.index(row.technique) % len(COLOURS)],
            marker=MARKERS[engines.index(row.engine) % len(MARKERS)],
            label=f"{row.technique}, {row.engine}",
        )
    axis.set_xlabel(label)
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)


def format_comparison(rows: Sequence[ComparedRow]) -> str:
    """The table for the terminal, then what each technique is."""
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
