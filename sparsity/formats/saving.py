"""Saves networks, in the form that the file's suffix names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.formats import onnx_file, onnx_int8
from sparsity.formats.half import round_to_half
from sparsity.formats.table import FORMS
from sparsity.yolo.network import Network


def save(network: Network, path: str | Path, *, int8_images: Sequence[Tensor] = ()) -> None:
    """Write a network, completely or not at all, in the form that the path's suffix names.

    .pt: the form of the network's family, which YOLOv5 or the ultralytics package opens.
    .safetensors: our own form, compressed (docs/format.md).
    .onnx: with decoded boxes, quantised to int8 by int8_images if there are any (see onnx_int8.quantize).
    All floats are rounded to half precision, as YOLOv5 stores them. The zeros stay the same. To get exactly
    the figures of the file, validate round_to_half(network).
    Raises InputError for another suffix, for a weight that half precision cannot hold, or if the file cannot
    be written.
    """
    path = check_form(path)
    network = round_to_half(copy.deepcopy(network))
    if int8_images and path.suffix == ".onnx":
        onnx_file.write_model(onnx_int8.quantize(network, int8_images), path)
    else:
        FORMS[path.suffix].write(network, path)


def check_form(path: str | Path, *, int8: bool = False) -> Path:
    """Return the path. Raises InputError if no saved form has its suffix, or if a package is missing."""
    path = Path(path)
    if path.suffix not in FORMS or path.is_dir():
        raise InputError(f"{path}: a file that ends in {', '.join(FORMS)} is expected")
    for package in FORMS[path.suffix].packages:
        optional_module(package, str(path))
    if int8 and path.suffix == ".onnx":
        optional_module("onnxruntime.quantization", "`int8`")
    return path
