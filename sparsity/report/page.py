"""Report a sweep as one HTML file that loads nothing from the internet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sparsity.formats.sizes import SIZE_COLUMNS
from sparsity.report.columns import HEAD, Cell, distinct_rows, has_heads, summarise
from sparsity.report.examples import Picture
from sparsity.report.findings import findings
from sparsity.report.rendering import embed, embed_figure, render
from sparsity.sweeping.table import Sweep, batch_sizes, with_stages

TEMPLATE = "page.html.jinja"


def render_page(
    sweep: Sweep,
    title: str,
    panels: Mapping[str, Figure],
    layers: Path,
    examples: Sequence[Sequence[Picture]] = (),
) -> str:
    """Return the page: findings, plots, the columns that matter, all columns on demand, the setup.

    panels: the plots, by what they show. layers: the file of the plot of the layers. examples: see examples.
    """
    return render(
        TEMPLATE,
        title=title,
        findings=findings(sweep),
        plots={name: embed_figure(figure) for name, figure in panels.items()},
        examples=examples,
        layers=embed(layers.read_bytes(), "image/png"),
        summary=summarise(with_stages(sweep.frame)),
        table=_table(sweep),
        differences=_differences(sweep),
        timed=bool(batch_sizes(sweep.frame)),
        setup={name: value for name, value in _setup(sweep).items() if value != ""},
    )


def _setup(sweep: Sweep) -> dict[str, Any]:
    first = sweep.frame.iloc[0]
    return {
        "weights": sweep.about["weights"],
        "data": sweep.about["data"],
        "images": f"{first.images} with {first.instances} true boxes",
        "command": sweep.about["command"],
        "started": sweep.about["started"],
        **{name: value for name, value in sweep.settings.items() if name not in ("weights", "data")},
        "weights digest": sweep.settings["weights"],
        "data digest": sweep.settings["data"],
        **sweep.about["environment"],
    }


def _table(sweep: Sweep) -> dict[str, Any]:
    """Return the column heads, and the rows of cells."""
    frame = distinct_rows(with_stages(sweep.frame))
    shown = ["engine"] if frame.engine.nunique() > 1 else []
    shown += [HEAD] if has_heads(frame) else []
    shown += ["method", "amount", "sparsity_conv", "AP", "AP_drop"]
    shown += [name for name in ("AP_change_low", "AP_change_high", "AP_share_above") if name in frame]
    shown += ["AP50", "AP75", "AP_small", "AP_medium"]
    shown += ["AP_large", "AR100", "P", "R", "mAP50", "mAP50_95"]
    for size in batch_sizes(frame):
        shown += [f"latency{part}_ms_b{size}" for part in ("", "_p10", "_p90")]
        shown += [f"speedup_b{size}", f"speedup_over_best_dense_b{size}"]
    shown += [*SIZE_COLUMNS, *(["channels_removed"] if frame.channels_removed.any() else [])]
    shown += ["preprocess_ms", "inference_ms", "nms_ms", "prune_seconds", "seconds"]
    shown += ["train_seconds"] if "train_seconds" in frame else []
    return {"heads": shown, "rows": _cells(frame, shown)}


def _differences(sweep: Sweep) -> dict[str, Any]:
    """Return the same as _table, with a row for each pair of methods at the same amount."""
    heads = list(sweep.differences.columns)
    return {"heads": heads, "rows": _cells(sweep.differences, heads)}


def _cells(frame: pd.DataFrame, shown: Sequence[str]) -> list[list[Cell]]:
    return [[Cell(_shown(name, row[name]), row[name]) for name in shown] for row in frame.to_dict("records")]


def _shown(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if name == "amount":
        return f"{value:.9g}"
    if name.endswith("seconds") or "_ms" in name:
        return f"{value:.1f}"
    return f"{value:.2f}" if name.startswith("speedup") else f"{value:.3f}"
