"""Networks as ONNX files with decoded boxes, and the metadata of such files."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes
from sparsity.base.optional import optional_module
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.onnx_dialect import CELLS, read_dialect, refuse_nms
from sparsity.formats.onnx_metadata import describe, read_metadata
from sparsity.formats.onnx_trial import refuse_unsafe
from sparsity.formats.saved_form import SavedForm
from sparsity.yolo.families import family_of
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network, fuse, has_norms

OPSET, OLDEST_OPSET = 18, 12
INPUT, OUTPUT, RAW = "images", "output0", "raw"
PREFIX = "network."
"""The prefix of the names of weights: the exported module holds the network in an attribute."""


class OnnxNetwork(nn.Module):
    """The network of an ONNX file. Engines run the file; this object holds its names and convolutions.

    names: the class names. strides: only the largest one is known. file: the file's path.
    dialect: the key of families.DIALECTS, by the form of the file's output.
    Its modules are Conv2d layers with the file's weights (as float32 where they are int8), and its other
    parameters are numbers for each channel, such as gamma of YOLO12, that multiply a map. Both are for
    counting.
    """

    def __init__(
        self,
        file: Path,
        names: Sequence[str],
        stride: int,
        convs: dict[str, nn.Conv2d],
        dialect: str,
        factors: Mapping[str, nn.Parameter] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.file, self.names, self.strides, self.dialect = file, tuple(names), (stride,), dialect
        for name, conv in convs.items():
            parent, last = _parent(self, name)
            # add_module and register_parameter would refuse some names that a file can contain.
            parent._modules[last] = conv
        for name, factor in factors.items():
            parent, last = _parent(self, name)
            parent._parameters[last] = factor

    @property
    def family(self) -> str:
        """The name of the family, as users write it; several, divided by slashes, if it can be any."""
        return family_of(self.dialect)

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
        _name_folded(model, stand_in)
        if set_weights(model, network, self._onnx):
            raise InputError("an ONNX export lost weights of this network; please report which network it is")
        for key, value in describe(network).items():
            model.metadata_props.add(key=key, value=value)
        return model


def _name_folded(model: Any, stand_in: Network) -> None:
    """Give weights that the exporter has reshaped and renamed, such as gamma of YOLO12, their names again.

    Their numbers tell which is which, because all weights of the stand-in differ.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    weights = ((PREFIX + name, parameter) for name, parameter in stand_in.named_parameters())
    lost = {parameter.numpy().tobytes(): name for name, parameter in weights if name not in stored}
    found = {tensor.name: lost.get(tensor.raw_data) for tensor in model.graph.initializer}
    names = {given: name for given, name in found.items() if name}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def set_weights(model: Any, network: Network, onnx: Any) -> list[str]:
    """Set the network's weights in the graph. Returns the names of those that have no place in it."""
    places = {tensor.name: tensor for tensor in model.graph.initializer}
    missing = []
    for name, parameter in _weights(network):
        place = places.get(PREFIX + name)
        if place is None or _without_ones(place.dims) != _without_ones(parameter.shape):
            missing.append(name)
            continue
        array = parameter.detach().cpu().float().contiguous().numpy().reshape(tuple(place.dims))
        place.CopyFrom(onnx.numpy_helper.from_array(array, place.name))
    return missing


def _without_ones(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size != 1]


def _weights(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, and the statistics of batch norms that fusing does not remove."""
    yield from network.named_parameters()
    statistics = ("running_mean", "running_var")
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name.endswith(statistics))


def write(network: Network, path: Path) -> None:
    """Write a fused network as ONNX with decoded boxes, completely or not at all.

    Input: `images`, float32 [batch, 3, height, width], RGB in 0 to 1.
    Output: `output0`, float32. For YOLOv5 it is [batch, cells, 5 + nc]: cx, cy, w, h in pixels, objectness,
    classes. For YOLOv8, YOLO11, YOLO12 and the one-to-many branch of YOLO26 it is [batch, 4 + nc, cells]:
    cx, cy, w, h in pixels, classes. For the one-to-one branch it is [batch, 300, 6]: the best detections, x1,
    y1, x2, y2 in pixels, score, class.
    Raises InputError if a package is missing or path cannot be written.
    """
    write_model(Exporter(decoded=True, asked_by=str(path)).export(network), path)


def write_model(model: Any, path: Path) -> None:
    """Write an onnx.ModelProto, completely or not at all."""
    write_bytes(path, model.SerializeToString())


def read(path: Path) -> OnnxNetwork:
    """Read a detector's ONNX file: one of ours, or an export of YOLOv5 or the ultralytics package.

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
    metadata = read_metadata(path, model)
    try:
        convs, factors = _convolutions(path, model, onnx), _factors(model, onnx)
    except InputError:
        raise
    except Exception as error:
        # For damaged numbers and attributes, onnx and PyTorch raise many exceptions.
        raise InputError(f"{path}: damaged: its weights cannot be read ({error})") from error
    refuse_nms(path, model, metadata)
    dialect = read_dialect(path, model, metadata, convs, onnx)
    if not convs:
        raise InputError(f"{path}: not a detector: its graph has no convolution")
    return OnnxNetwork(path, metadata.names, metadata.stride, convs, dialect, factors)


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
            groups = next((one.i for one in node.attribute if one.name == "group"), 1)
            convs[name] = _conv2d(weight, bias, groups)
    return convs


def _factors(model: Any, onnx: Any) -> dict[str, nn.Parameter]:
    """Return the parameters that multiply each channel of a map by a number of its own, by their names.

    In the graph they are one row of numbers that is reshaped, or a tensor [1, channels, 1, 1].
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    behind = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Reshape"}
    factors = {}
    for node in model.graph.node:
        for given in node.input if node.op_type == "Mul" else ():
            tensor = stored.get(behind.get(given, given))
            if tensor is not None and _is_row(list(tensor.dims), reshaped=given in behind):
                row = np.array(onnx.numpy_helper.to_array(tensor), np.float32).reshape(-1)
                name = tensor.name.removeprefix(PREFIX)
                factors[name] = nn.Parameter(torch.from_numpy(row), requires_grad=False)
    return factors


def _is_row(sizes: list[int], *, reshaped: bool) -> bool:
    """Whether a tensor of these sizes has a number for each of several channels."""
    if reshaped:
        return len(sizes) == 1 and sizes[0] > 1
    return len(sizes) == 4 and sizes[1] > 1 and sizes == [1, sizes[1], 1, 1]


def _counts_up(weight: np.ndarray) -> bool:
    """Whether weight is YOLOv8's dfl, the constant 0, 1, 2, ..., which other exporters write as a Conv."""
    return weight.size > 1 and np.array_equal(weight.reshape(-1), np.arange(weight.size))


def _parent(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds this dotted name, which is made if it is missing, and the last part."""
    *parts, last = name.split(".")
    for part in parts:
        root = root._modules.setdefault(part, nn.Module())
    return root, last


def _conv2d(weight: np.ndarray, bias: list[np.ndarray], groups: int) -> nn.Conv2d:
    out, inside, *kernel = weight.shape
    conv = nn.Conv2d(inside * groups, out, tuple(kernel), bias=bool(bias), groups=groups, device="meta")
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
