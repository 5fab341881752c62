"""Static quantisation of an ONNX graph to int8, by NNCF."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.formats.int8_runtimes import ONNXRUNTIME, RUNTIMES
from sparsity.formats.onnx_file import INPUT, PREFIX, Exporter, quiet
from sparsity.formats.onnx_pairs import Range, add_pairs, as_unsigned, pass_pairs_on
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import Network

TELEMETRY = "openvino_telemetry"
SILU_ENDS = -8.0
"""Below this, SiLU is 0, up to 0.003. A coarser scale to tell such numbers apart would cost accuracy."""
SIGMOID = Range(0.0, 1.0)
QUANTIZED = "_quantized"
"""The suffix of the names of int8 weights, as onnxruntime's quantiser gives it."""


def quantize(network: Network, calibration: Sequence[Tensor], *, runtime: str = ONNXRUNTIME) -> Any:
    """Quantise a network's convolutions, except the last ones, to int8. Returns an onnx.ModelProto.

    Its boxes are decoded. calibration: batches of float images [batch, 3, height, width], RGB in 0 to 1. They
    set the scales of the maps. Weights have 7 bits and a scale for each output channel, and 0 stays 0. The
    last convolutions and the decoding stay float.
    runtime: the package that the file is made for; the other one runs it too. onnxruntime computes a
    convolution in integers only if its output is quantised before the activation. OpenVINO is faster without
    that, but onnxruntime is then slower than in float32.
    Raises InputError without images, for another runtime, or if a package is missing.

    Source: https://github.com/openvinotoolkit/nncf (post-training quantisation)
    """
    if runtime not in RUNTIMES:
        raise InputError(f"`int8` is {runtime!r}; {' or '.join(RUNTIMES)} is expected")
    if not calibration:
        raise InputError("`int8` needs images; give some by `calibration` (no labels needed)")
    check_packages()
    model = Exporter(decoded=True, asked_by="`int8`").export(network)
    images = [image.float().contiguous().numpy() for batch in calibration for image in batch.split(1)]
    last = _last_nodes(model, network)
    result = _quantized_by_nncf(model, images, [*last, *_nodes_after(model, last)])
    as_unsigned(result)
    if runtime == ONNXRUNTIME:
        pass_pairs_on(result)
        ranges = _ranges(model, _quantized_outputs(result), images)
        add_pairs(result, ranges | _silu_ranges(model, ranges))
    _name_weights(result)
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    return result


def check_packages() -> None:
    """Raise InputError if a package that quantize needs is missing."""
    for package in ("onnx", ONNXRUNTIME):
        optional_module(package, "`int8`")
    _import_nncf()


def _import_nncf() -> ModuleType:
    """Import nncf without its telemetry, which would send usage data unless the user has declined."""
    missing = object()
    before: Any = sys.modules.get(TELEMETRY, missing)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return optional_module("nncf", "`int8`")
    finally:
        del sys.modules[TELEMETRY]
        if before is not missing:
            sys.modules[TELEMETRY] = before


def _quantized_by_nncf(model: Any, images: Sequence[np.ndarray], exact: Sequence[str]) -> Any:
    """Return a copy of a model, quantised. exact: the names of the nodes that stay float."""
    nncf = _import_nncf()
    advanced = nncf.AdvancedQuantizationParameters(
        # On CPUs without VNNI, the sum of two products can overflow. With 7-bit weights it cannot.
        overflow_fix=nncf.OverflowFix.ENABLE,
    )
    try:
        with quiet():
            return nncf.quantize(
                type(model).FromString(model.SerializeToString()),
                nncf.Dataset(images, lambda image: {INPUT: image}),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(images),
                # Not every node is one of nncf's graph, which folds constants.
                ignored_scope=nncf.IgnoredScope(names=list(exact), validate=False),
                advanced_parameters=advanced,
            )
    except Exception as error:
        # The exceptions of nncf, onnx and onnxruntime have no common public base.
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"`int8`: nncf can't quantise this network: {reason}") from error


def _last_nodes(model: Any, network: Network) -> list[str]:
    """Return the head's convolutions without an activation: boxes and scores depend on their precision."""
    head = f"model.{len(network.model) - 1}."
    convs = [name for name, _ in convolutions(network) if name.startswith(head)]
    weights = {f"{PREFIX}{name}.weight" for name in convs if not name.endswith(".conv")}
    return [node.name for node in model.graph.node if weights & set(node.input)]


def _nodes_after(model: Any, names: Sequence[str]) -> list[str]:
    """Return the names of the nodes that use, directly or not, what the named ones give."""
    given: set[str] = set()
    found = []
    for node in model.graph.node:
        after = bool(given & set(node.input))
        if after:
            found.append(node.name)
        if after or node.name in names:
            given.update(node.output)
    return found


def _quantized_outputs(model: Any) -> list[str]:
    """Return the outputs of the convolutions whose weights are quantised."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.output[0] for node in convs if node.input[1] in dequantized]


def _ranges(model: Any, values: Sequence[str], images: Sequence[np.ndarray]) -> dict[str, Range]:
    """Return the smallest and the largest number of these values, each as the mean over the images."""
    onnx, onnxruntime = optional_module("onnx", "`int8`"), optional_module(ONNXRUNTIME, "`int8`")
    measuring, outputs = type(model).FromString(model.SerializeToString()), []
    for value in values:
        for operation in ("ReduceMin", "ReduceMax"):
            outputs.append(f"{value}/{operation}")
            node = onnx.helper.make_node(operation, [value], outputs[-1:], keepdims=0)
            measuring.graph.node.append(node)
            kind = onnx.helper.make_tensor_value_info(outputs[-1], onnx.TensorProto.FLOAT, [])
            measuring.graph.output.append(kind)
    session = onnxruntime.InferenceSession(
        measuring.SerializeToString(), providers=["CPUExecutionProvider"], enable_fallback=0
    )
    found = np.array([session.run(outputs, {INPUT: image}) for image in images])
    means = found.mean(axis=0, dtype=np.float64).reshape(-1, 2).tolist()
    return {value: Range(least, most) for value, (least, most) in zip(values, means, strict=True)}


def _silu_ranges(model: Any, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return the ranges of values before a SiLU, without what it turns to 0, and of its sigmoid."""
    multiplied = {frozenset(node.input) for node in model.graph.node if node.op_type == "Mul"}
    found = {}
    for node in model.graph.node:
        if node.op_type != "Sigmoid":
            continue
        value, output = node.input[0], node.output[0]
        if value in ranges and {value, output} in multiplied:
            least, most = ranges[value]
            found |= {value: Range(max(least, SILU_ENDS), most), output: SIGMOID}
    return found


def _name_weights(model: Any) -> None:
    """Name the int8 weights after the float ones."""
    names = dict(_weight_names(model))
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _weight_names(model: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of each int8 weight, and the one it gets."""
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            name = node.input[0]
            yield name, f"{name[name.index(PREFIX) :].rpartition('_')[0]}{QUANTIZED}"
