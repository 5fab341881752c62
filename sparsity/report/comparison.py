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
    "peak_memory_mb": ("peak MB", "{:.0f}"),
    "file_mb": ("file MB", "{:.2f}"),
    "parameters": ("parameters", "{}"),
    "gflops": ("GFLOPs", "{:.2f}"),
    "sparsity": ("zeros", "{:.2f}"),
    "seconds": ("made in s", "{:.0f}"),
}


def write_comparison(folder: Path, rows: Sequence[ComparedRow], title: str) -> None:
    """Write compare.csv and compare.png."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    with writing_into(folder):
        write_text(folder / "compare.csv", encodable(frame.to_csv(index=False)))
        save(plot_comparison(frame, encodable(title)), folder / "compare.png")


def plot_comparison(frame: pd.DataFrame, title: str) -> Figure:
    """AP against latency and against file size, a point for each row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _plot_points(left, frame, "latency_ms", "latency, ms an image at batch 1")
        _plot_points(right, frame, "file_mb", "file, 1e6 bytes")
        left.set_ylabel("AP (COCO), 0 to 1")
        right.legend(frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left", fontsize=8)
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _plot_points(axis: Axes, frame: pd.DataFrame, column: str, label: str) -> None:
    techniques = list(dict.fromkeys(frame.technique))
    engines = list(dict.fromkeys(frame.engine))
    for row in frame.itertuples():
        axis.plot(
            getattr(row, column),
            row.AP,
            linestyle="",
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
    widths = max(len(row.technique) for row in rows) + 2, max(len(row.engine) for row in rows) + 2
    lines = [f"{'technique':>{widths[0]}}{'engine':>{widths[1]}}"]
    lines[0] += "".join(f"{head:>12}" for head, _ in SHOWN.values())
    for row in rows:
        cells = "".join(f"{form.format(getattr(row, name)):>12}" for name, (_, form) in SHOWN.items())
        lines.append(f"{row.technique:>{widths[0]}}{row.engine:>{widths[1]}}{cells}")
    notes = dict.fromkeys(f"{row.technique}: {row.note}." for row in rows)
    return "\n".join([*lines, "", *notes])
