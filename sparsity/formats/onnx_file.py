"""Networks as ONNX files with decoded boxes, and the metadata of such files."""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes
from sparsity.base.optional import optional_module
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.onnx_trial import BATCH, OTHER_SIDES, Output, Trial, refuse_unsafe
from sparsity.formats.saved_form import SavedForm
from sparsity.yolo.attributes import shown
from sparsity.yolo.families import DIALECTS, dialect_by_output
from sparsity.yolo.head import Head
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network, fuse, has_norms

OPSET, OLDEST_OPSET = 18, 12
FLOAT = 1
"""onnx.TensorProto.FLOAT."""
INPUT, OUTPUT, RAW = "images", "output0", "raw"
CELLS = "cells"
"""The name of the dimension of cells in our own exports."""
LIKELY_MOST_CLASSES = 100_000
LONGEST_METADATA, LONGEST_STRIDE = 2**20, 100
"""Longer texts in the metadata are not parsed, in characters."""
NMS_PARTS = ("NonMaxSuppression", "NMS")
"""Parts of the names of operations that suppress boxes: ONNX's own, and those of TensorRT's plugins."""
DETECTION_NUMBERS = 6
"""Box, score and class of a detection."""
PREFIX = "network."
"""The prefix of the names of weights: the exported module holds the network in an attribute."""


class OnnxNetwork(nn.Module):
    """The network of an ONNX file. Engines run the file; this object holds its names and convolutions.

    names: the class names. strides: only the largest one is known. file: the file's path.
    dialect: the key of families.DIALECTS, by the form of the file's output.
    Its modules are Conv2d layers with the file's weights (as float32 where they are int8), for counting.
    """

    def __init__(
        self,
        file: Path,
        names: Sequence[str],
        stride: int,
        convs: dict[str, nn.Conv2d],
        dialect: str,
    ) -> None:
        super().__init__()
        self.file, self.names, self.strides, self.dialect = file, tuple(names), (stride,), dialect
        for name, conv in convs.items():
            _put(self, name, conv)

    @property
    def largest_stride(self) -> int:
        """The largest stride, which the file's metadata names."""
        return max(self.strides)

    def forward(self, *_images: Tensor) -> list[Tensor]:
        """Raise InputError: PyTorch does not run an ONNX file."""
        raise InputError(f"{self.file}: an ONNX file; `engine` onnxruntime or openvino runs it")


class _Raw(nn.Module):
    """Images -> raw maps."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images))


class _Decoded(_Raw):
    """Images -> boxes and confidences, as the head decodes them."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network.head.decode(self.network(images))


@dataclass
class Exporter:
    """Exports networks as ONNX graphs. Of networks that differ only in weights, only the first is traced.

    decoded: whether the graph ends in boxes (OUTPUT) or in raw maps (RAW0, RAW1, ...). Both take images
    [batch, 3, height, width], RGB in 0 to 1, any batch, sides multiples of the largest stride.
    side: if given, the graph takes one image of side x side pixels only, which runtimes such as OpenCV DNN
    need. opset: the version of ONNX's operations, OLDEST_OPSET to OPSET.
    asked_by: what needs the package onnx; an error names it if the package is missing.
    """

    decoded: bool
    asked_by: str = "an .onnx file"
    side: int | None = None
    opset: int = OPSET

    def __post_init__(self) -> None:
        """Raise InputError if a package is missing, or for another opset."""
        if not OLDEST_OPSET <= self.opset <= OPSET:
            raise InputError(f"`opset` is {self.opset}; {OLDEST_OPSET} to {OPSET} is expected")
        self._onnx = optional_module("onnx", self.asked_by)
        self._traced: tuple[str, Any] | None = None

    def export(self, network: Network) -> Any:
        """Return an onnx.ModelProto of the network in float32. Separate batch norms are fused first.

        Of a head with two branches, the graph has the one that runs.
        """
        if len(held_heads(network)) > 1:
            network = keep_head(copy.deepcopy(network), network.head.branch)
        if has_norms(network):
            network = fuse(copy.deepcopy(network).eval())
        shape = _shape_key(network)
        if self._traced is None or self._traced[0] != shape:
            self._traced = shape, self._trace(network)
        model = copy.deepcopy(self._traced[1])
        missing = set_weights(model, network, self._onnx)
        return self._trace(network) if missing else model

    def _trace(self, network: Network) -> Any:
        """Trace a copy whose weights all differ, so that no two of them are merged."""
        if self.side is not None and (self.side < 1 or self.side % network.largest_stride):
            raise InputError(
                f"`static_imgsz` is {self.side}; a multiple of the largest stride, {network.largest_stride}, "
                "is expected"
            )
        stand_in = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
        for module in stand_in.modules():
            # Detectors can adapt the class of a convolution to their device. The plain class is traced.
            if isinstance(module, nn.Conv2d):
                module.__class__ = nn.Conv2d
        generator = torch.Generator().manual_seed(0)
        for parameter in stand_in.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        model = _export(_Decoded(stand_in) if self.decoded else _Raw(stand_in), self.side, self.opset)
        if set_weights(model, network, self._onnx):
            raise InputError("an ONNX export lost weights of this network; please report which network it is")
        for key, value in describe(network).items():
            model.metadata_props.add(key=key, value=value)
        return model


def set_weights(model: Any, network: Network, onnx: Any) -> list[str]:
    """Set the network's weights in the graph. Returns the names of those that have no place in it."""
    places = {tensor.name: tensor for tensor in model.graph.initializer}
    missing = []
    for name, parameter in _weights(network):
        place = places.get(PREFIX + name)
        if place is None or tuple(place.dims) != tuple(parameter.shape):
            missing.append(name)
            continue
        array = parameter.detach().cpu().float().contiguous().numpy()
        place.CopyFrom(onnx.numpy_helper.from_array(array, place.name))
    return missing


def _weights(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, and the statistics of batch norms that fusing does not remove."""
    yield from network.named_parameters()
    statistics = ("running_mean", "running_var")
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name.endswith(statistics))


def describe(network: Network) -> dict[str, str]:
    """Return the metadata of the file, in the form of the families' own exports: stride and names."""
    return {"stride": str(network.largest_stride), "names": repr(dict(enumerate(network.names)))}


def write(network: Network, path: Path) -> None:
    """Write a fused network as ONNX with decoded boxes, completely or not at all.

    Input: `images`, float32 [batch, 3, height, width], RGB in 0 to 1.
    Output: `output0`, float32. For YOLOv5 it is [batch, cells, 5 + nc]: cx, cy, w, h in pixels, objectness,
    classes. For YOLOv8 it is [batch, 4 + nc, cells]: cx, cy, w, h in pixels, classes.
    Raises InputError if a package is missing or path cannot be written.
    """
    write_model(Exporter(decoded=True, asked_by=str(path)).export(network), path)


def write_model(model: Any, path: Path) -> None:
    """Write an onnx.ModelProto, completely or not at all."""
    write_bytes(path, model.SerializeToString())


def read(path: Path) -> OnnxNetwork:
    """Read a detector's ONNX file: one of ours, or YOLOv5's or YOLOv8's own export.

    Raises InputError if it is not one, or lacks what detection needs: class names, stride, the input
    `images`, one output of boxes.
    """
    onnx = optional_module("onnx", str(path))
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: empty (0 bytes); export it again")
        model = onnx.load(path, load_external_data=False)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:
        # For a damaged file, protobuf raises its own DecodeError, which has no public base, and others.
        raise InputError(f"{path}: not an ONNX file, or truncated or damaged; export it again") from error
    try:
        refuse_unsafe(model, onnx)
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    names, stride = _names(path, metadata.get("names")), _stride(path, metadata.get("stride"))
    try:
        convs = _convolutions(path, model, onnx)
    except InputError:
        raise
    except Exception as error:
        # For damaged numbers and attributes, onnx and PyTorch raise many exceptions.
        raise InputError(f"{path}: damaged: its convolutions' weights cannot be read ({error})") from error
    _refuse_nms(path, model, metadata, len(names))
    dialect = _dialect(path, model, len(names), stride, onnx)
    if not convs:
        raise InputError(f"{path}: not a detector: its graph has no convolution")
    return OnnxNetwork(path, names, stride, convs, dialect)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the messages of the exporter and of onnxruntime."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _names(path: Path, text: str | None) -> tuple[str, ...]:
    if text is None:
        raise InputError(
            f"{path}: has no class names (metadata `names`); files of `save` and YOLOv5's export.py have them"
        )
    names = _literal(text)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or len(names) > LIKELY_MOST_CLASSES:
        names = {}
    if set(names) != set(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        names = {}
    if not names:
        raise InputError(f"{path}: its metadata `names` is not a dict of names from 0 on: {text[:80]!r}")
    return tuple(names[i] for i in range(len(names)))


def _literal(text: str) -> object:
    """Return the value of a Python literal. None if it is not one, or would take long to make."""
    try:
        tree = ast.parse(text.strip() if len(text) <= LONGEST_METADATA else "", mode="eval")
        # Keys of a dict can be chosen so that their hashes are equal, which takes numbers of over 60 bits.
        numbers = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        if any(isinstance(number, int) and number >= 2**60 for number in numbers):
            return None
        return ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _stride(path: Path, text: str | None) -> int:
    try:
        stride = int(json.loads(text or "")) if len(text or "") <= LONGEST_STRIDE else 0
    except (ValueError, TypeError, OverflowError, RecursionError):
        stride = 0
    if not 1 <= stride <= 1024:
        raise InputError(
            f"{path}: its metadata `stride` is {shown(text)}; the largest stride, such as 32, is expected"
        )
    return stride


def _dialect(path: Path, model: Any, classes: int, stride: int, onnx: Any) -> str:
    """Return the dialect whose input and output the model has. Raises InputError if there is none."""
    _check_input(path, model)
    try:
        trial = Trial(model, stride, onnx)
        dims, found = _output_dims(model), trial.output()
        sizes = [dim.dim_value for dim in dims]
        if len(sizes) == 3 and not any(sizes[1:]) and found:
            sizes = _steady(found, Trial(model, stride, onnx, OTHER_SIDES).output())
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    dialect = _dialect_by_cells(dims) or dialect_by_output(sizes, classes)
    if dialect is None:
        sizes = [size or dim.dim_param for size, dim in zip(sizes, dims, strict=False)]
        raise InputError(
            f"{path}: its first output is {shown(sizes)}; [batch, cells, {5 + classes}] is expected for "
            f"{classes} class names: boxes, objectness and classes (of YOLOv8 [batch, {4 + classes}, cells])"
        )
    _check_output(path, trial, found, DIALECTS[dialect].head, classes)
    return dialect


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
            "it with free batch, height and width (YOLOv5's export.py: --dynamic)"
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


def _refuse_nms(path: Path, model: Any, metadata: dict[str, str], classes: int) -> None:
    """Raise InputError for a graph that ends in detections [batch, n, 6] instead of the boxes of all cells.

    For one class, a YOLOv5 also has 6 numbers in a cell. Only metadata and graph can then tell.
    """
    operations = {node.op_type for node in model.graph.node}
    found = next((one for one in sorted(operations) if any(part in one for part in NMS_PARTS)), None)
    dims = [dim.dim_value for dim in _output_dims(model)]
    detections = len(dims) == 3 and dims[2] == DETECTION_NUMBERS and classes != 1
    if found:
        reason = f"its graph has {found}"
    elif _asked_for_nms(metadata):
        reason = "its metadata say so"
    elif detections:
        reason = f"its first output has {DETECTION_NUMBERS} numbers for each detection"
    else:
        return
    raise InputError(
        f"{path}: it ends in NMS ({reason}), but validation needs the boxes of all cells; export it without "
        "NMS (YOLOv5's export.py: no --nms; ultralytics: nms=False, end2end=False)"
    )


def _asked_for_nms(metadata: dict[str, str]) -> bool:
    """Whether the metadata of an ultralytics export say that NMS, or a head without it, is in the graph."""
    arguments = _literal(metadata.get("args", "{}"))
    asked = isinstance(arguments, dict) and arguments.get("nms") is True
    return asked or metadata.get("end2end") == "True"


def _dialect_by_cells(dims: Sequence[Any]) -> str | None:
    """Return the dialect of our own exports, whose dimension of cells has a name; None for others."""
    if len(dims) != 3 or any(dim.dim_value for dim in dims[1:]):
        return None
    return next((key for key, one in DIALECTS.items() if dims[one.head.cells_dim].dim_param == CELLS), None)


def _output_dims(model: Any) -> Sequence[Any]:
    return model.graph.output[0].type.tensor_type.shape.dim if model.graph.output else ()


def _convolutions(path: Path, model: Any, onnx: Any) -> dict[str, nn.Conv2d]:
    """Return the convolutions, with float32 weights, by the names of their weights."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    behind = {node.output[0]: node.input for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convs = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        names = [behind.get(name, [name])[0] for name in node.input[1:]]
        if any(name not in stored for name in names):
            raise InputError(f"{path}: the weights of {node.name or 'a Conv'} are not in the file")
        weight, *bias = (np.array(onnx.numpy_helper.to_array(stored[name]), np.float32) for name in names)
        if weight.ndim == 4 and weight.size and not _counts_up(weight):
            name = names[0].removeprefix(PREFIX).removesuffix("_quantized").removesuffix(".weight")
            convs[name] = _conv2d(weight, bias)
    return convs


def _counts_up(weight: np.ndarray) -> bool:
    """Whether weight is YOLOv8's dfl, the constant 0, 1, 2, ..., which other exporters write as a Conv."""
    return weight.size > 1 and np.array_equal(weight.reshape(-1), np.arange(weight.size))


def _put(root: nn.Module, name: str, conv: nn.Conv2d) -> None:
    """Add a module under a dotted name."""
    *parts, last = name.split(".")
    for part in parts:
        root = root._modules.setdefault(part, nn.Module())
    # add_module would refuse some names that a file can contain.
    root._modules[last] = conv


def _conv2d(weight: np.ndarray, bias: list[np.ndarray]) -> nn.Conv2d:
    out, inside, *kernel = weight.shape
    conv = nn.Conv2d(inside, out, tuple(kernel), bias=bool(bias), device="meta")
    conv.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)
    if bias:
        conv.bias = nn.Parameter(torch.from_numpy(bias[0]), requires_grad=False)
    return conv


def _shape_key(network: Network) -> str:
    """Return a key that is equal for networks that differ only in the values of their weights."""
    shapes = sorted((name, tuple(p.shape)) for name, p in network.named_parameters())
    constants = [(name, buffer.flatten().tolist()) for name, buffer in network.named_buffers()]
    return repr((network.architecture, shapes, constants, network.names))


def _export(module: _Raw, side: int | None = None, opset: int = OPSET) -> Any:
    stride, maps = module.network.largest_stride, len(module.network.strides)
    outputs = [OUTPUT] if isinstance(module, _Decoded) else [f"{RAW}{i}" for i in range(maps)]
    free = {INPUT: {0: "batch", 2: "height", 3: "width"}}
    for name in outputs:
        free[name] = {0: "batch", 2: "rows", 3: "columns"}
    if outputs == [OUTPUT]:
        free[OUTPUT] = {0: "batch", module.network.head.cells_dim: CELLS}
    images = torch.zeros(1, 3, side, side) if side else torch.zeros(2, 3, 2 * stride, 3 * stride)
    content = io.BytesIO()
    with quiet():
        # The tracing exporter is used, because the newer one takes ten times as long for the same graph.
        torch.onnx.export(
            module.eval(),
            (images,),
            content,
            dynamo=False,
            opset_version=opset,
            # With one size, the places of the cells become constants.
            do_constant_folding=side is not None,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_axes=None if side else free,
        )
    return optional_module("onnx", "an .onnx file").load_from_string(content.getvalue())


FORM = SavedForm(read, write, packages=("onnx",), trainable=False)
