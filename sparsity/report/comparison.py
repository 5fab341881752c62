"""Report a comparison of techniques: tables, a plot and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity.base.files import encodable, write_text, writing_into
from sparsity.comparing.row import ComparedRow
from sparsity.report.advice import Advice, advise
from sparsity.report.columns import Cell, Summary
from sparsity.report.plots import save
from sparsity.report.rendering import embed_figure, render
from sparsity.report.styles import COLOURS, STYLE
from sparsity.report.tables import as_latex, as_markdown
from sparsity.report.titles import set_title

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


TEMPLATE = "comparison.html.jinja"
BAR, LEAST_HEIGHT = 0.32, 1.6
"""The height of a row of bars, and of what stands around them, in inches."""
PANEL_WIDTH = 4.6
"""The width of a plot of the page, in inches."""


def write_comparison(
    folder: Path, rows: Sequence[ComparedRow], title: str, machine: str, setup: Mapping[str, Any]
) -> None:
    """Write compare.csv, compare.md, compare.tex, compare.png and compare.html.

    machine: where the latency was measured. setup: what the page says of the run, by name.
    """
    frame, summary, title = pd.DataFrame([asdict(row) for row in rows]), _summarise(rows), encodable(title)
    advice = advise(rows)
    with writing_into(folder):
        write_text(folder / "compare.csv", encodable(frame.to_csv(index=False)))
        for name, write in (("compare.md", as_markdown), ("compare.tex", as_latex)):
            text = write(summary.heads, summary.texts, title, summary.notes)
            write_text(folder / name, encodable(text))
        save(plot_comparison(frame, title, machine), folder / "compare.png")
        page = _render(frame, summary, advice, title, {"machine": machine, **setup})
        write_text(folder / "compare.html", encodable(page))


def _render(
    frame: pd.DataFrame, summary: Summary, advice: Advice, title: str, setup: Mapping[str, Any]
) -> str:
    """Return the page: the advice, plots, the table, all columns on demand, the setup."""
    known = frame.astype(object).where(frame.notna(), "")
    cells = [[Cell(_text(value), value) for value in row] for row in known.itertuples(index=False)]
    return render(
        TEMPLATE,
        title=title,
        advice=advice,
        plots={label: embed_figure(_plot_alone(frame, name, label)) for name, label in PANELS.items()},
        summary=summary,
        table=Summary(list(frame.columns), cells, ()),
        setup={name: value for name, value in setup.items() if value not in ("", None)},
    )


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _summarise(rows: Sequence[ComparedRow]) -> Summary:
    """Return the table of format_comparison, and the note of each technique."""
    heads = ["technique", "engine", "file", *(head for head, _ in SHOWN.values())]
    table = []
    for row in rows:
        suffix = Path(row.file).suffix
        cells = [Cell(text, text) for text in (row.technique, row.engine, suffix)]
        values = {name: getattr(row, name) for name in SHOWN}
        cells += [Cell(SHOWN[name][1].format(value), value) for name, value in values.items()]
        table.append(cells)
    return Summary(heads, table, list(dict.fromkeys(f"{row.technique}: {row.note}." for row in rows)))


def plot_comparison(frame: pd.DataFrame, title: str, machine: str) -> Figure:
    """Return a plot with a bar for each row: AP, latency (whisker: 10th to 90th percentile), size, memory."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.0, LEAST_HEIGHT + BAR * len(frame)), layout="constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (column, label) in zip(panels, PANELS.items(), strict=True):
            _plot_bars(axis, frame, column, label)
        _name_rows(panels[0], frame)
        figure.supxlabel(f"latency of one image on {machine}", fontsize=8, parse_math=False)
        set_title(figure, title)
    return figure


def _plot_alone(frame: pd.DataFrame, column: str, label: str) -> Figure:
    """Return one of the plots of plot_comparison."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_WIDTH, LEAST_HEIGHT / 2 + BAR * len(frame)), layout="constrained")
        axis = figure.subplots()
        _plot_bars(axis, frame, column, label)
        _name_rows(axis, frame)
    return figure


def _name_rows(axis: Axes, frame: pd.DataFrame) -> None:
    names = [f"{row.technique}, {row.engine}" for row in frame.itertuples()]
    axis.set_yticks(range(len(frame)), names)
    axis.invert_yaxis()


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
    summary = _summarise(rows)
    table = [summary.heads, *summary.texts]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in table
    ]
    return "\n".join([*lines, "", *summary.notes])
