"""Rows of figures -> text, JSON and CSV; knows no network."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.data.annotations import Annotations
from sparsity.data.dataset import Scan
from sparsity.errors import InputError
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.files import write_text
from sparsity.metrics import Metrics
from sparsity.pruning.apply import LayerSparsity, Sparsity

COMPARED = (
    *("P", "R", "mAP50", "mAP50_95", "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
"""The figures that the guide publishes."""
_SAME_SETUP = ("amount", "scope", "images", "instances", "imgsz", "batch_size", "conf_thres", "iou_thres")
"""What a run must share with one of the guide's to be compared to it."""


def write_run(
    folder: Path,
    metrics: Metrics,
    layers: Sequence[LayerSparsity],
    predictions: list[dict[str, Any]],
    annotations: Annotations,
) -> None:
    """Write a validation's files, each whole or not at all.

    predictions.json in COCO's results format, layers.csv with a row per Conv2d, metrics.json last.
    Where the annotations were derived from labels, annotations.json holds them, since the image and
    category ids of the predictions are theirs. Raises InputError where they can't be written.
    """
    try:
        for left_over in ("metrics.json", "annotations.json"):
            (folder / left_over).unlink(missing_ok=True)
        if annotations.path is None:
            write_json(folder / "annotations.json", annotations.content)
        write_json(folder / "predictions.json", predictions)
        write_text(folder / "layers.csv", _layers_csv(layers))
        write_json(folder / "metrics.json", asdict(metrics), indent=1)
    except OSError as error:
        raise InputError(f"{folder}: the results cannot be written ({error.strerror})") from error


def write_json(path: Path, content: object, indent: int | None = None) -> None:
    """Write content as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def _layers_csv(layers: Sequence[LayerSparsity]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "shape", "weights", "zeros", "sparsity"])
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        writer.writerow([layer.name, shape, layer.weights, layer.zeros, f"{layer.sparsity:.6f}"])
    return text.getvalue()


def format_model(counted: Sparsity) -> str:
    """The model's summary."""
    return f"Model summary: {counted.conv_layers} Conv2d layers, {counted.parameters} parameters, 0 gradients"


def format_sparsity(counted: Sparsity) -> str:
    """Global sparsity as YOLOv5's log tells it, and that of the convolutions' weights."""
    return (
        f"{counted.model:.3g} global sparsity "
        f"({counted.conv_zeros} of {counted.conv_weights} Conv2d weights, {counted.conv:.3f})"
    )


def format_scan(scan: Scan) -> str:
    """The data set's line, and a line for each image that was left out."""
    counts = f"{scan.found} found, {scan.missing} missing, {scan.empty} empty, {scan.corrupt} corrupt"
    return "\n".join([counts, *(f"  left out: {problem}" for problem in scan.problems)])


def format_table(own: AveragePrecision, images: int, names: Sequence[str], *, verbose: bool = False) -> str:
    """Class, images, labels, P, R, mAP50 and mAP50-95: all, and each class if verbose."""
    head = ("Class", "Images", "Labels", "P", "R", "mAP50", "mAP50-95")
    lines = [f"{head[0]:>22}" + "".join(f"{title:>11}" for title in head[1:])]
    lines.append(_table_row("all", images, own.instances, own.P, own.R, own.mAP50, own.mAP50_95))
    for one in own.classes if verbose else ():
        name = names[one.label][:22]
        lines.append(_table_row(name, images, one.instances, one.P, one.R, one.AP50, one.AP))
    return "\n".join(lines)


def _table_row(name: str, images: int, labels: int, *figures: float) -> str:
    return f"{name:>22}{images:>11}{labels:>11}" + "".join(f"{value:>11.3g}" for value in figures)


def format_speed(metrics: Metrics) -> str:
    """The Speed line."""
    return (
        f"Speed: {metrics.preprocess_ms:.1f}ms pre-process, {metrics.inference_ms:.1f}ms inference, "
        f"{metrics.nms_ms:.1f}ms NMS per image at batch {metrics.batch_size}, {metrics.imgsz} px, "
        f"{metrics.precision}"
    )


def format_guide(metrics: Metrics, guide: Path) -> str:
    """The guide's row beside ours, where the run repeats one of the guide's; else nothing.

    guide: a CSV of published rows with the columns of Metrics. A run repeats a row where weights,
    amount, scope, images, instances, image and batch size and thresholds are the row's.
    """
    row = _guide_row(metrics, guide)
    if row is None:
        return ""
    head = f"{'against the guide':>22}{'guide':>9}{'ours':>9}{'difference':>12}"
    ours = asdict(metrics)
    rows = [(name, row[name], ours[name], ours[name] - row[name]) for name in COMPARED]
    lines = [f"{n:>22}{theirs:>9.3f}{mine:>9.3f}{gap:>+12.3f}" for n, theirs, mine, gap in rows]
    return "\n".join([head, *lines]) + "\n\n"


def _guide_row(metrics: Metrics, guide: Path) -> dict[str, Any] | None:
    if not guide.is_file():
        return None
    ours = asdict(metrics)
    for row in pd.read_csv(guide).to_dict("records"):
        keys = [key for key in _SAME_SETUP if key != "scope" or metrics.amount]
        same = all(ours[key] == row[key] for key in keys)
        if same and Path(metrics.weights).name == row["weights"]:
            return row
    return None
