"""A sweep -> CSV, JSON, plots, a page, and the table that is printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.files import encodable, write_json, write_text, writing_into
from sparsity.report.findings import findings
from sparsity.report.guide import read_guide
from sparsity.report.page import render_page
from sparsity.report.plots import plot_layers, plot_sweep, save
from sparsity.rows import Sweep, batch_sizes


def write_sweep(folder: Path, sweep: Sweep, guide: Path, title: str = "") -> None:
    """Write sweep.csv, sweep.json, sweep.png, sweep.svg, layers.png and report.html.

    guide: a CSV of published rows; they are marked where the network's file is theirs.
    """
    frame = sweep.frame
    title = title or sweep.about.get("title") or default_title(sweep)
    title = encodable(title)
    name = Path(sweep.about["weights"]).name
    published = [row for row in read_guide(guide) if row["weights"] == name]
    with writing_into(folder):
        write_text(folder / "sweep.csv", encodable(frame.to_csv(index=False)))
        tables = {"rows": _records(frame), "differences": _records(sweep.differences)}
        content = {"title": title, **sweep.about, "settings": sweep.settings, **tables}
        write_json(folder / "sweep.json", content, indent=1)
        figure = plot_sweep(frame, f"{title}: sparsity against AP against latency", published)
        save(figure, folder / "sweep.png")
        save(figure, folder / "sweep.svg")
        save(plot_layers(sweep.layers, f"Zeros by layer: {title}"), folder / "layers.png")
        write_text(folder / "report.html", encodable(render_page(sweep, title, folder)))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them: what is no number is null."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def default_title(sweep: Sweep) -> str:
    """Which network on which data."""
    weights, data = (Path(str(sweep.about[name])).name for name in ("weights", "data"))
    return f"{weights or 'network'} on {data}"


def format_sweep(sweep: Sweep) -> str:
    """The table for the terminal, dense first, and the findings."""
    frame, sizes = sweep.frame, batch_sizes(sweep.frame)
    resampled = "AP_change_low" in frame
    columns = ["method", "sparsity", "AP", "change", *(["95%"] if resampled else []), "AP50", "mAP50-95"]
    columns += [f"ms b{size} (p10-p90)" for size in sizes] + [f"speedup b{size}" for size in sizes[:1]]
    widths = [max(9, len(name) + 2, 24 if "p10" in name else 0, 16 if "%" in name else 0) for name in columns]
    widths[0] = max(widths[0], frame.method.str.len().max() + 2)
    lines = ["".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for number, row in enumerate(frame.to_dict("records")):
        if row["amount"] == 0 and number:
            continue  # the dense row stands once, at the top
        cells = [row["method"] if row["amount"] else "dense", f"{row['amount']:.9g}", f"{row['AP']:.3f}"]
        cells += [f"{-row['AP_drop'] + 0.0:+.3f}" if row["amount"] else ""]
        cells += [_interval(row) if row["amount"] else ""] if resampled else []
        cells += [f"{row['AP50']:.3f}", f"{row['mAP50_95']:.3f}"]
        for size in sizes:
            times = (row[f"latency{part}_ms_b{size}"] for part in ("", "_p10", "_p90"))
            cells.append("{:.1f} ({:.1f}-{:.1f})".format(*times))
        cells += [f"{row[f'speedup_b{size}']:.2f}x" for size in sizes[:1]]
        lines.append("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return "\n".join([*lines, "", *findings(sweep)])


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['AP_change_low']:+.3f} {row['AP_change_high']:+.3f}"
