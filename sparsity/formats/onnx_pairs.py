"""Pairs of QuantizeLinear and DequantizeLinear in an ONNX graph: changed and added, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparsity.base.optional import optional_module

Pair = tuple[str, str]
"""The names of a pair's scale and zero point."""
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
PASSING = frozenset({"Concat", "MaxPool", "Resize"})
"""Operations whose output has only numbers of their inputs: with nearest neighbours, as detectors resize."""
SHIFT, LARGEST = 128, 255


class Range(NamedTuple):
    """The smallest and the largest number of a value."""

    least: float
    most: float


def as_unsigned(model: Any) -> None:
    """Make signed pairs unsigned. The numbers that they give stay the same.

    onnxruntime has integer kernels for unsigned maps only, on x86. OpenVINO (2026.4) computes wrong maps for
    signed ones with a zero point.
    """
    helper = optional_module("onnx", "`int8`").numpy_helper
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != QUANTIZE:
            continue
        tensor = stored[node.input[2]]
        zero_point = helper.to_array(tensor)
        if zero_point.dtype == np.int8:
            shifted = (zero_point.astype(np.int16) + SHIFT).astype(np.uint8)
            tensor.CopyFrom(helper.from_array(shifted, tensor.name))
    del model.graph.value_info[:]


def pass_pairs_on(model: Any) -> None:
    """Repeat pairs behind operations that pass numbers on. The numbers stay the same.

    onnxruntime computes an operation in integers only if a pair is directly before it.
    """
    helper = optional_module("onnx", "`int8`").numpy_helper
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == QUANTIZE}
    pairs: dict[str, Pair] = {}
    behind: dict[str, Pair] = {}
    for node in model.graph.node:
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        if node.op_type == DEQUANTIZE:
            pairs[node.output[0]] = node.input[1], node.input[2]
        elif node.op_type in PASSING and all(name in pairs for name in inputs):
            values = {tuple(helper.to_array(stored[part]).item() for part in pairs[name]) for name in inputs}
            output = node.output[0]
            if len(values) == 1 and output not in quantized:
                behind[output] = pairs[output] = pairs[inputs[0]]
    _insert(model, behind)


def add_pairs(model: Any, ranges: Mapping[str, Range]) -> None:
    """Quantise values to 8 bits, unsigned, with one scale for each. ranges: value -> what it must hold."""
    helper = optional_module("onnx", "`int8`").numpy_helper
    behind: dict[str, Pair] = {}
    for value, (least, most) in ranges.items():
        least, most = min(least, 0.0), max(most, 0.0)
        scale = np.float32((most - least) / LARGEST or 1.0)
        zero_point = np.uint8(np.clip(round(-least / float(scale)), 0, LARGEST))
        pair = f"{value}_scale", f"{value}_zero_point"
        for name, number in zip(pair, (scale, zero_point), strict=True):
            model.graph.initializer.append(helper.from_array(np.array(number), name))
        behind[value] = pair
    _insert(model, behind)


def _insert(model: Any, behind: Mapping[str, Pair]) -> None:
    """Insert a pair behind each of these values."""
    nodes = list(model.graph.node)
    placed: list[Any] = []
    for node in nodes:
        node.input[:] = [f"{name}_dequantized" if name in behind else name for name in node.input]
        placed.append(node)
        for output in node.output:
            if output in behind:
                placed += _pair_nodes(output, behind[output])
    del model.graph.node[:]
    model.graph.node.extend(placed)


def _pair_nodes(value: str, pair: Sequence[str]) -> list[Any]:
    make = optional_module("onnx", "`int8`").helper.make_node
    stored, given = f"{value}_quantized", f"{value}_dequantized"
    return [
        make(QUANTIZE, [value, *pair], [stored], name=f"{value}_{QUANTIZE}"),
        make(DEQUANTIZE, [stored, *pair], [given], name=f"{value}_{DEQUANTIZE}"),
    ]
