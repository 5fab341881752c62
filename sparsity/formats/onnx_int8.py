"""Static quantisation of an ONNX file to int8, by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.formats.onnx_file import INPUT, PREFIX, Exporter, quiet
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import Network


def quantize(network: Network, calibration: Sequence[Tensor]) -> Any:
    """Quantise a network's convolutions, except the last ones, to int8. Returns an onnx.ModelProto.

    Its boxes are decoded. calibration: batches of float images [batch, 3, height, width], RGB in 0 to 1. The
    smallest and the largest value of each map over them set its scale. Weights have 7 bits and a scale for
    each output channel, and 0 stays 0. Activations between convolutions and the decoding stay float. Raises
    InputError without images, or if a package is missing.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    if not calibration:
        raise InputError("`int8` needs images; give some by `calibration` (no labels needed)")
    onnx = optional_module("onnx", "`int8`")
    quantization = optional_module("onnxruntime.quantization", "`int8`")
    model = Exporter(decoded=True, asked_by="`int8`").export(network)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    with tempfile.TemporaryDirectory(prefix="int8-") as folder, quiet():
        quantized = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            quantized,
            _Reader(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_last_nodes(model, network),
            per_channel=True,
            # On x86, onnxruntime has integer kernels only for unsigned activations. Without VNNI, the sum of
            # two products can overflow, which costs a fifth of yolov5n's AP. With 7-bit weights it cannot.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,
        )
        result = onnx.load(quantized)
    del result.metadata_props[:]
    for key, value in metadata.items():
        result.metadata_props.add(key=key, value=value)
    return result


def _last_nodes(model: Any, network: Network) -> list[str]:
    """Return the head's convolutions without an activation: boxes and scores depend on their precision."""
    head = f"model.{len(network.model) - 1}."
    convs = [name for name, _ in convolutions(network) if name.startswith(head)]
    weights = {f"{PREFIX}{name}.weight" for name in convs if not name.endswith(".conv")}
    return [node.name for node in model.graph.node if weights & set(node.input)]


class _Reader:
    """Gives the images one by one, as onnxruntime's calibration requests them."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self._images = self._each(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image, None after the last."""
        return next(self._images, None)

    @staticmethod
    def _each(batches: Sequence[Tensor]) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            for image in batch.split(1):
                yield {INPUT: image.float().contiguous().numpy()}
