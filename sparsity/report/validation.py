"""The printed text of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sparsity.data.scan import Scan
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.formats.sizes import MB, Sizes
from sparsity.pruning.zeros import LayerSparsity, Sparsity
from sparsity.report import guide
from sparsity.report.guide import GUIDE
from sparsity.validation.metrics import Metrics


def format_model(counted: Sparsity) -> str:
    """Return the summary of the model."""
    return f"Model summary: {counted.conv_layers} Conv2d layers, {counted.parameters} parameters, 0 gradients"


def format_sparsity(counted: Sparsity) -> str:
    """Return the global sparsity, as in YOLOv5's log, and the sparsity of the convolutions' weights."""
    return (
        f"{counted.model:.3g} global sparsity "
        f"({counted.conv_zeros} of {counted.conv_weights} Conv2d weights, {counted.conv:.3f})"
    )


def format_scan(scan: Scan) -> str:
    """Return the counts of the data set, and a line for each image that was left out."""
    counts = f"{scan.found} found, {scan.missing} missing, {scan.empty} empty, {scan.corrupt} corrupt"
    return "\n".join([counts, *(f"  left out: {problem}" for problem in scan.problems)])


def format_table(own: AveragePrecision, images: int, names: Sequence[str], *, verbose: bool = False) -> str:
    """Return a table of class, images, labels, P, R, mAP50 and mAP50-95: all, and each class if verbose."""
    head = ("Class", "Images", "Labels", "P", "R", "mAP50", "mAP50-95")
    lines = [f"{head[0]:>22}" + "".join(f"{title:>11}" for title in head[1:])]
    lines.append(_table_row("all", images, own.instances, own.P, own.R, own.mAP50, own.mAP50_95))
    for one in own.classes if verbose else ():
        name = names[one.label][:22]
        lines.append(_table_row(name, images, one.instances, one.P, one.R, one.AP50, one.AP))
    return "\n".join(lines)


def _table_row(name: str, images: int, labels: int, *figures: float) -> str:
    return f"{name:>22}{images:>11}{labels:>11}" + "".join(f"{value:>11.3g}" for value in figures)


def format_layers(layers: Sequence[LayerSparsity]) -> str:
    """Return a table with a row for each Conv2d: name, shape, weights, zeros, sparsity."""
    rows = [("layer", "shape", "weights", "zeros", "sparsity")]
    rows += [
        (one.name, "x".join(map(str, one.shape)), str(one.weights), str(one.zeros), f"{one.sparsity:.3f}")
        for one in layers
    ]
    return "\n".join(
        f"{name:>22}{shape:>17}" + "".join(f"{x:>11}" for x in more) for name, shape, *more in rows
    )


def format_saved(file: Path, *, int8: str = "") -> str:
    """Return the line of a saved file: its size, and for int8 the flags that validate it.

    int8: the engine that an int8 file is made for.
    The figures of the run are not those of the int8 file.
    """
    line = f"Saved {file}: {file.stat().st_size / MB:.2f} MB"
    if int8 and file.suffix == ".onnx":
        line += f", int8; to validate it: --weights {file} --engine {int8}"
    return line


def format_sizes(sizes: Sizes) -> str:
    """Return the sizes of the files, compared with the dense .pt."""
    return (
        f"Sizes: dense .pt {sizes.size_dense_mb:.2f} MB, .pt {sizes.size_pt_mb:.2f} MB, "
        f".safetensors {sizes.size_safetensors_mb:.2f} MB "
        f"({sizes.size_dense_mb / sizes.size_safetensors_mb:.1f} times smaller than the dense .pt; entropy "
        f"of the zeros and 16 bits for each other weight: {sizes.size_bound_mb:.2f} MB)"
    )


def format_speed(metrics: Metrics) -> str:
    """Return the line of speeds."""
    return (
        f"Speed: {metrics.preprocess_ms:.1f}ms pre-process, {metrics.inference_ms:.1f}ms inference, "
        f"{metrics.nms_ms:.1f}ms NMS per image at batch {metrics.batch_size}, {metrics.imgsz} px, "
        f"{metrics.precision}"
    )


def format_guide(metrics: Metrics, path: Path = GUIDE) -> str:
    """Return our figures beside the guide's, if the run repeats one of its rows; else "".

    path: a CSV of published rows with the columns of Metrics. A run repeats a row if weights, amount, scope,
    images, instances, image size, batch size and thresholds are equal.
    """
    row = guide.repeated_row(metrics, path)
    if row is None:
        return ""
    head = f"{'against the guide':>22}{'guide':>9}{'ours':>9}{'difference':>12}"
    ours = asdict(metrics)
    rows = [(name, row[name], ours[name], ours[name] - row[name]) for name in guide.COMPARED]
    lines = [f"{n:>22}{theirs:>9.3f}{mine:>9.3f}{gap:>+12.3f}" for n, theirs, mine, gap in rows]
    return "\n".join([head, *lines]) + "\n\n"
