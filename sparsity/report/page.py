"""Report a sweep as one HTML file that loads nothing from the internet."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparsity.formats.sizes import SIZE_COLUMNS
from sparsity.report.findings import findings
from sparsity.sweeping.table import Sweep, batch_sizes

TEMPLATE = "page.html.jinja"


def render_page(sweep: Sweep, title: str, folder: Path) -> str:
    """Return the page: findings, plots (sweep.svg and layers.png in folder), the table, the setup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = sweep.frame.iloc[0]
    setup = {
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
    return environment.get_template(TEMPLATE).render(
        title=title,
        findings=findings(sweep),
        plot=_data_uri(folder / "sweep.svg", "image/svg+xml"),
        layers=_data_uri(folder / "layers.png", "image/png"),
        table=_table(sweep),
        differences=_differences(sweep),
        setup={name: value for name, value in setup.items() if value != ""},
    )


def _table(sweep: Sweep) -> dict[str, Any]:
    """Return the column heads, and rows of (text, value to sort by)."""
    frame = sweep.frame
    shown = ["engine"] if frame.engine.nunique() > 1 else []
    shown += ["method", "amount", "sparsity_conv", "AP", "AP_drop"]
    shown += [name for name in ("AP_change_low", "AP_change_high", "AP_share_above") if name in frame]
    shown += ["AP50", "AP75", "AP_small", "AP_medium"]
    shown += ["AP_large", "AR100", "P", "R", "mAP50", "mAP50_95"]
    for size in batch_sizes(frame):
        shown += [f"latency{part}_ms_b{size}" for part in ("", "_p10", "_p90")] + [f"speedup_b{size}"]
    shown += [*SIZE_COLUMNS, *(["channels_removed"] if frame.channels_removed.any() else [])]
    shown += ["preprocess_ms", "inference_ms", "nms_ms", "prune_seconds", "seconds"]
    return {"heads": shown, "rows": _cells(frame, shown)}


def _differences(sweep: Sweep) -> dict[str, Any]:
    """Return the same as _table, with a row for each pair of methods at the same amount."""
    heads = list(sweep.differences.columns)
    return {"heads": heads, "rows": _cells(sweep.differences, heads)}


def _cells(frame: pd.DataFrame, shown: Sequence[str]) -> list[list[tuple[str, Any]]]:
    return [[(_shown(name, row[name]), row[name]) for name in shown] for row in frame.to_dict("records")]


def _shown(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if name == "amount":
        return f"{value:.9g}"
    if name.endswith("seconds") or "_ms" in name:
        return f"{value:.1f}"
    return f"{value:.2f}" if name.startswith("speedup") else f"{value:.3f}"


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
