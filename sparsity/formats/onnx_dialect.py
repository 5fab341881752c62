"""The dialect of an ONNX file: how its output encodes boxes, by its metadata, its shape and its head."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sparsity.base.errors import InputError
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.onnx_metadata import Metadata
from sparsity.formats.onnx_trial import BATCH, OTHER_SIDES, SIDES, Output, Trial
from sparsity.yolo.attributes import shown
from sparsity.yolo.families import DIALECTS, dialect_by_output
from sparsity.yolo.head import Head
from sparsity.yolo.yolo26.detect import DETECTION_NUMBERS, OneToManyDetect, OneToOneDetect
from sparsity.yolo.yolov8.detect import SIDES as BOX_SIDES
from sparsity.yolo.yolov8.detect import AnchorFreeDetect

FLOAT = 1
"""onnx.TensorProto.FLOAT."""
CELLS = "cells"
"""The name of the dimension of cells in our own exports."""
NMS_PARTS = ("NonMaxSuppression", "NMS")
"""Parts of the names of operations that suppress boxes: ONNX's own, and those of TensorRT's plugins."""
ONE_TO_ONE_HEADS = ("", "Detect")
"""The classes of heads without NMS that are read, as the ultralytics package names them, or does not."""
_BOXES = re.compile(r"(^|\.)cv2\.\d+\.2$")
"""The names of the convolutions that give a YOLOv8's or later head's boxes."""


def refuse_nms(path: Path, model: Any, metadata: Metadata) -> None:
    """Raise InputError for a graph that ends in NMS, and so in detections [batch, n, 6].

    The detections of a head that needs no NMS are accepted. For one class, a YOLOv5 also has 6 numbers in a
    cell. Only metadata and graph can then tell.
    """
    operations = {node.op_type for node in model.graph.node}
    found = next((one for one in sorted(operations) if any(part in one for part in NMS_PARTS)), None)
    dims = [dim.dim_value for dim in _output_dims(model)]
    detections = len(dims) == 3 and dims[2] == DETECTION_NUMBERS and len(metadata.names) != 1
    if found:
        reason = f"its graph has {found}"
    elif metadata.asked_for_nms:
        reason = "its metadata say so"
    elif metadata.end_to_end and metadata.head not in ONE_TO_ONE_HEADS:
        reason = f"its head is {shown(metadata.head)}"
    elif detections and not _is_one_to_one(metadata):
        reason = f"its first output has {DETECTION_NUMBERS} numbers for each detection"
    else:
        return
    raise InputError(
        f"{path}: it ends in NMS ({reason}), but validation needs the boxes of all cells; export it without "
        "NMS (YOLOv5's export.py: no --nms; ultralytics: no nms=True)"
    )


def read_dialect(
    path: Path, model: Any, metadata: Metadata, convs: Mapping[str, nn.Conv2d], onnx: Any
) -> str:
    """Return the dialect whose input and output the model has. Raises InputError if there is none.

    convs: the model's convolutions by name. Those of the head tell a YOLO26's one-to-many branch from a
    YOLOv8, whose output looks the same.
    """
    _check_input(path, model)
    classes = len(metadata.names)
    try:
        # Graphs without NMS can need images of at least as many cells as they give detections.
        trial = Trial(model, metadata.stride, onnx, OTHER_SIDES if _is_one_to_one(metadata) else SIDES)
        dims, found = _output_dims(model), trial.output()
        sizes = [dim.dim_value for dim in dims]
        if len(sizes) == 3 and not any(sizes[1:]) and found:
            sizes = _steady(found, Trial(model, metadata.stride, onnx, OTHER_SIDES).output())
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    dialect = metadata.dialect or _dialect(metadata, dims, sizes, convs)
    if not dialect:
        sizes = [size or dim.dim_param for size, dim in zip(sizes, dims, strict=False)]
        raise InputError(
            f"{path}: its first output is {shown(sizes)}; [batch, cells, {5 + classes}] is expected for "
            f"{classes} class names: boxes, objectness and classes (of YOLOv8 [batch, {4 + classes}, cells])"
        )
    _check_output(path, trial, found, DIALECTS[dialect].head, classes)
    return dialect


def _dialect(
    metadata: Metadata, dims: Sequence[Any], sizes: Sequence[int], convs: Mapping[str, nn.Conv2d]
) -> str:
    """Return the dialect of an export that does not name it; "" if none fits.

    dims, sizes: the output's dimensions, as declared and as inferred.
    """
    if metadata.end_to_end:
        return OneToOneDetect.dialect
    dialect = _dialect_by_cells(dims) or dialect_by_output(sizes, len(metadata.names)) or ""
    boxes = {conv.out_channels for name, conv in convs.items() if _BOXES.search(name)}
    if dialect == AnchorFreeDetect.dialect and boxes == {BOX_SIDES}:
        return OneToManyDetect.dialect
    return dialect


def _is_one_to_one(metadata: Metadata) -> bool:
    return metadata.end_to_end or metadata.dialect == OneToOneDetect.dialect


def _steady(one: Output, other: Output | None) -> list[int]:
    """Return the sizes of an output that are the same for images of another size, 0 for the others."""
    sizes = zip(one.shape, other.shape if other else (), strict=False)
    return [size if size == again else 0 for size, again in sizes]


def _check_input(path: Path, model: Any) -> None:
    """Raise InputError unless the model takes batches of images of any size, and nothing else."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        found = ", ".join(one.name[:40] for one in inputs[:8]) or "none"
        raise InputError(f"{path}: its inputs are {found}; one of [batch, 3, height, width] is expected")
    images = inputs[0].type.tensor_type
    sizes = [dim.dim_value for dim in images.shape.dim]
    if images.elem_type != FLOAT or sizes[1] not in (0, 3):
        raise InputError(f"{path}: its images are not float32 of 3 channels; export it in float32")
    if sizes[0] or sizes[2] or sizes[3]:
        raise InputError(
            f"{path}: it takes only images of {sizes}, but validation has batches of several shapes; export "
            "it with free batch, height and width (YOLOv5's export.py: --dynamic; ultralytics: dynamic=True)"
        )


def _check_output(path: Path, trial: Trial, found: Output | None, head: type[Head], classes: int) -> None:
    """Raise InputError unless a trial without numbers gives what the file declares.

    What an operation that is not ONNX's own gives is not known here. The declared shape then counts.
    """
    if found is None and not trial.complete:
        return
    if found is None:
        reason = f" ({trial.problem})" if trial.problem else ""
        raise InputError(f"{path}: damaged: its graph does not fit together{reason}")
    numbers = 3 - head.cells_dim
    expected = {0: BATCH, numbers: head.cell_numbers(classes)}
    fits = found.kind == FLOAT and len(found.shape) == 3
    if not fits or any(found.shape[dim] not in (size, *_unknown(trial)) for dim, size in expected.items()):
        raise InputError(
            f"{path}: for {BATCH} images, its graph gives an output of {shown(found.shape)} (ONNX "
            f"type {found.kind}); float32 with {head.cell_numbers(classes)} numbers for each cell of each "
            "image is expected; export it again"
        )


def _unknown(trial: Trial) -> tuple[int, ...]:
    """Return what a dimension can be in the place of the expected one: unknown, after unknown operations."""
    return () if trial.complete else (0,)


def _dialect_by_cells(dims: Sequence[Any]) -> str | None:
    """Return the dialect of our own exports, whose dimension of cells has a name; None for others."""
    if len(dims) != 3 or any(dim.dim_value for dim in dims[1:]):
        return None
    return next((key for key, one in DIALECTS.items() if dims[one.head.cells_dim].dim_param == CELLS), None)


def _output_dims(model: Any) -> Sequence[Any]:
    return model.graph.output[0].type.tensor_type.shape.dim if model.graph.output else ()
