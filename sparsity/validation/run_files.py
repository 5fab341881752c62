"""The files of one validation: metrics.json, layers.csv, predictions.json, annotations.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from sparsity.base.files import replacing, write_json, write_text, writing_into
from sparsity.data.annotations import Annotations
from sparsity.evaluation.results import Results
from sparsity.pruning.zeros import LayerSparsity
from sparsity.validation.metrics import Metrics

LAYERS = ("name", "shape", "weights", "zeros", "sparsity")
"""The columns of layers.csv."""
PREDICTIONS = "predictions.json"


def write_run(
    folder: Path,
    metrics: Metrics,
    layers: Sequence[LayerSparsity],
    results: Results,
    annotations: Annotations,
) -> None:
    """Write the files of a validation, each completely or not at all.

    predictions.json has COCO's results format. layers.csv has a row per Conv2d. metrics.json is written last.
    If the annotations were derived from labels, annotations.json holds them, because the predictions refer to
    their image and category ids. Raises InputError where the files can't be written.
    """
    with writing_into(folder):
        for left_over in ("metrics.json", "annotations.json"):
            (folder / left_over).unlink(missing_ok=True)
        write_annotations(folder, annotations)
        write_predictions(folder, results)
        write_layers(folder, layers)
        write_json(folder / "metrics.json", asdict(metrics), indent=1)


def write_predictions(folder: Path, results: Results) -> None:
    """Write predictions.json: the detections in COCO's results format."""
    with replacing(folder / PREDICTIONS) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(results.write_lines())


def write_annotations(folder: Path, annotations: Annotations) -> None:
    """Write annotations.json if the annotations were derived from labels."""
    if annotations.path is None:
        write_json(folder / "annotations.json", annotations.content)


def read_layers(folder: Path) -> pd.DataFrame:
    """Read layers.csv. Raises OSError or ValueError if it can't be read or has other columns or no rows."""
    frame = pd.read_csv(folder / "layers.csv")
    if tuple(frame.columns) != LAYERS or frame.empty:
        raise ValueError(f"columns {', '.join(LAYERS)} are expected")
    return frame


def write_layers(folder: Path, layers: Sequence[LayerSparsity]) -> None:
    """Write layers.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LAYERS)
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        writer.writerow([layer.name, shape, layer.weights, layer.zeros, f"{layer.sparsity:.6f}"])
    write_text(folder / "layers.csv", text.getvalue())
