"""Report a sweep: CSV, JSON, plots, an HTML page, and the printed table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.base.files import encodable, write_json, write_text, writing_into
from sparsity.report.columns import distinct_rows, format_speedup, speedup_note, summarise
from sparsity.report.examples import draw_examples
from sparsity.report.findings import findings
from sparsity.report.guide import GUIDE, read_guide
from sparsity.report.page import render_page
from sparsity.report.plots import plot_layers, plot_panels, plot_sweep, save
from sparsity.report.tables import as_latex, as_markdown
from sparsity.report.titles import describe_run
from sparsity.sweeping.table import Sweep, batch_sizes, with_stages


def write_sweep(folder: Path, sweep: Sweep, guide: Path = GUIDE, title: str = "") -> None:
    """Write sweep.csv, sweep.md, sweep.tex, sweep.json, sweep.png, sweep.svg, layers.png and report.html.

    The page has the examples that the sweep left in the folder, if there are any (see sweeping.example).
    guide: a CSV of published rows. They are marked in the plot if they are about the network's file.
    """
    frame = with_stages(sweep.frame)
    title = title or sweep.about.get("title") or default_title(sweep)
    title = encodable(title)
    name = Path(sweep.about["weights"]).name
    published = [row for row in read_guide(guide) if row["weights"] == name]
    with writing_into(folder):
        write_text(folder / "sweep.csv", encodable(sweep.frame.to_csv(index=False)))
        _write_tables(folder, frame, title)
        tables = {"rows": _records(sweep.frame), "differences": _records(sweep.differences)}
        content = {"title": title, **sweep.about, "settings": sweep.settings, **tables}
        write_json(folder / "sweep.json", content, indent=1)
        measured = "sparsity, AP and latency" if batch_sizes(frame) else "sparsity against AP"
        figure = plot_sweep(frame, f"{title}: {measured}", published)
        save(figure, folder / "sweep.png")
        save(figure, folder / "sweep.svg")
        save(plot_layers(sweep.layers, f"Zeros by layer: {title}"), folder / "layers.png")
        page = render_page(
            sweep, title, plot_panels(frame, published), folder / "layers.png", draw_examples(folder)
        )
        write_text(folder / "report.html", encodable(page))


def _write_tables(folder: Path, frame: pd.DataFrame, title: str) -> None:
    """Write sweep.md and sweep.tex: the columns that matter most."""
    summary = summarise(frame)
    for name, write in (("sweep.md", as_markdown), ("sweep.tex", as_latex)):
        write_text(folder / name, encodable(write(summary.heads, summary.texts, title, summary.notes)))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON values. NaN becomes null."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def default_title(sweep: Sweep) -> str:
    """Return a title: the network's file and the data."""
    weights, data = (str(sweep.about[name]) for name in ("weights", "data"))
    return describe_run(weights, data, sweep.frame.images.iloc[0])


def format_sweep(sweep: Sweep) -> str:
    """Return the table for the terminal, with the dense row of each engine first, and the findings."""
    frame = with_stages(sweep.frame)
    rows = distinct_rows(frame).to_dict("records")
    table = [_cells(row, frame) for row in rows]
    widths = {name: _width(name, [cells[name] for cells in table]) for name in table[0]}
    lines = ["".join(f"{name:>{width}}" for name, width in widths.items())]
    lines += ["".join(f"{cells[name]:>{width}}" for name, width in widths.items()) for cells in table]
    note = speedup_note([text for cells in table for text in cells.values()])
    return "\n".join([*lines, *note, "", *findings(sweep)])


def _width(name: str, cells: Sequence[str]) -> int:
    least = {"95%": 16, "ms": 24, "MB": 0}.get(name.split()[0], 9)
    return max(least, len(name) + 2, *(len(cell) + 2 for cell in cells))


def _cells(row: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, str]:
    """Return the texts of a row, by column."""
    sizes, pruned = batch_sizes(frame), row["amount"] > 0
    cells = {"engine": row["engine"]} if frame.engine.nunique() > 1 else {}
    cells |= {"method": row["method"], "sparsity": f"{row['amount']:.9g}"}
    cells |= {"AP": f"{row['AP']:.3f}", "change": f"{-row['AP_drop'] + 0.0:+.3f}" if pruned else ""}
    if "AP_change_low" in frame:
        cells["95%"] = _interval(row) if pruned else ""
    cells |= {"AP50": f"{row['AP50']:.3f}", "mAP50-95": f"{row['mAP50_95']:.3f}"}
    for size in sizes:
        times = (row[f"latency{part}_ms_b{size}"] for part in ("", "_p10", "_p90"))
        cells[f"ms b{size} (p10-p90)"] = "{:.1f} ({:.1f}-{:.1f})".format(*times)
    cells |= {f"speedup b{size}": format_speedup(row, size) for size in sizes[:1]}
    return cells | {"MB": f"{row['size_safetensors_mb']:.2f}"}


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['AP_change_low']:+.3f} {row['AP_change_high']:+.3f}"
