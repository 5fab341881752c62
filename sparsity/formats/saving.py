"""Saves networks, in the form that the file's suffix names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.c_engine.cpus import IMGSZ, THIS
from sparsity.formats import c_file, onnx_file, onnx_int8
from sparsity.formats.half import round_to_half
from sparsity.formats.int8_runtimes import ONNXRUNTIME
from sparsity.formats.table import FORMS
from sparsity.yolo.network import Network


def save(
    network: Network,
    path: str | Path,
    *,
    int8_images: Sequence[Tensor] = (),
    int8: str = ONNXRUNTIME,
    static_imgsz: int | None = None,
    opset: int | None = None,
    imgsz: int | tuple[int, int] = IMGSZ,
    target: str = THIS,
) -> None:
    """Write a network, completely or not at all, in the form that the path's suffix names.

    .pt: the form of the network's family, which YOLOv5 or the ultralytics package opens.
    .safetensors: our own form, compressed (docs/format.md).
    .onnx: with decoded boxes, quantised to int8 by int8_images if there are any, for the runtime int8:
    onnxruntime or openvino (see onnx_int8.quantize).
    static_imgsz: an .onnx takes one image of this many pixels a side only, as OpenCV DNN needs. Validation
    cannot read such a file. opset: of the .onnx, 12 to 18 (18 if None).
    .c: C code that runs the network without Python, and a .h file beside it (docs/c.md). imgsz: pixels of a
    side of its images, or (height, width). target: the CPU that it is tuned for, such as cortex-a76; "this"
    measures on the machine at hand.
    All floats are rounded to half precision, as YOLOv5 stores them. The zeros stay the same. To get exactly
    the figures of the file, validate round_to_half(network).
    Raises InputError for another suffix, for a weight that half precision cannot hold, or if the file cannot
    be written.
    """
    require_network(network, Network)
    path = check_form(path)
    special = static_imgsz is not None or opset is not None
    if special and (path.suffix != ".onnx" or int8_images):
        raise InputError(f"{path}: `static_imgsz` and `opset` are for an .onnx in float32")
    network = round_to_half(copy.deepcopy(network))
    if int8_images and path.suffix == ".onnx":
        onnx_file.write_model(onnx_int8.quantize(network, int8_images, runtime=int8), path)
    elif special:
        chosen = onnx_file.OPSET if opset is None else opset
        exporter = onnx_file.Exporter(True, str(path), static_imgsz, chosen)
        onnx_file.write_model(exporter.export(network), path)
    elif path.suffix == c_file.SUFFIX:
        c_file.write(network, path, imgsz, target)
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
        onnx_int8.check_packages()
    return path
