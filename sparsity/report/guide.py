"""The rows of figures that Ultralytics' guide publishes, and which of them a run repeats."""

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
"""The fields that must be equal for a run to be compared with a row of the guide."""

_PLAIN = ("l1", "unstructured", "")
"""Criterion, pattern and kept layers of the guide's rows."""


def read_guide(path: Path) -> list[dict[str, Any]]:
    """Return the published rows, with the columns of Metrics; none if the file is missing."""
    return pd.read_csv(path).to_dict("records") if path.is_file() else []


def repeated_row(metrics: Metrics, path: Path) -> dict[str, Any] | None:
    """Return the published row with the setup of metrics; None if there is none."""
    ours = asdict(metrics)
    plain = (metrics.criterion, metrics.pattern, metrics.keep) == _PLAIN
    if metrics.amount and not plain:
        return None
    keys = [key for key in _SAME_SETUP if key != "scope" or metrics.amount]
    for row in read_guide(path):
        if Path(metrics.weights).name == row["weights"] and all(ours[key] == row[key] for key in keys):
            return row
    return None
