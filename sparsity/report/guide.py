"""The figures that Ultralytics' guide publishes, and which of our runs repeat one of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.validation.metrics import Metrics

GUIDE = Path(__file__).parent / "guide_yolov5x.csv"
"""The published rows, with the columns of Metrics."""
COMPARED = (
    *("P", "R", "mAP50", "mAP50_95", "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
"""The figures that the guide publishes."""
_SAME_SETUP = ("amount", "scope", "images", "instances", "imgsz", "batch_size", "conf_thres", "iou_thres")
"""What a run must share with one of the guide's to be compared to it."""

_PLAIN = ("l1", "unstructured", "")
"""Criterion, pattern and layers kept, of the guide's."""


def read_guide(path: Path) -> list[dict[str, Any]]:
    """The published rows, with the columns of Metrics; none where there is no such file."""
    return pd.read_csv(path).to_dict("records") if path.is_file() else []


def repeated_row(metrics: Metrics, path: Path) -> dict[str, Any] | None:
    """The published row whose setup is that of metrics."""
    ours = asdict(metrics)
    plain = (metrics.criterion, metrics.pattern, metrics.keep) == _PLAIN
    if metrics.amount and not plain:
        return None
    keys = [key for key in _SAME_SETUP if key != "scope" or metrics.amount]
    for row in read_guide(path):
        if Path(metrics.weights).name == row["weights"] and all(ours[key] == row[key] for key in keys):
            return row
    return None
