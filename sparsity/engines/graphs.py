"""Shared by the engines that run ONNX graphs: a network's graph, and the decoding of its outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.formats.onnx_file import Exporter, OnnxNetwork
from sparsity.yolo.families import DIALECTS
from sparsity.yolo.head import Candidates
from sparsity.yolo.network import Network

Decode = Callable[[Sequence[Tensor], float], Candidates]


class Graphs:
    """Makes the ONNX graph of a network. Networks that differ in their weights only are traced once."""

    def __init__(self) -> None:
        """Raise InputError where the package onnx is missing."""
        self._exporter = Exporter(decoded=False, asked_by="`engine` onnxruntime or openvino")

    def get(self, network: nn.Module) -> tuple[bytes, Decode]:
        """Return the serialised ONNX graph of a network, and the function that decodes its outputs to boxes.

        The graph of an ONNX file is the file itself. The graph of a network ends in raw maps.
        Raises InputError for any other module.
        """
        if isinstance(network, OnnxNetwork):
            return network.file.read_bytes(), partial(_decode_boxes, network)
        if not isinstance(network, Network):
            raise InputError(f"a {type(network).__name__} can't be run as an ONNX graph")
        return self._exporter.export(network).SerializeToString(), copy.deepcopy(network.head).candidates


@contextmanager
def refused_by(engine: str) -> Iterator[None]:
    """Turn any error of an engine, about a network or its images, into an InputError."""
    try:
        yield
    except Exception as error:
        # The exceptions of the engines have no public base class.
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{engine} can't run this network: {reason}") from error


def _decode_boxes(network: OnnxNetwork, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
    """Return the boxes of a file's first output. Raises InputError if its shape is not the declared one."""
    head, found = DIALECTS[network.dialect].head, maps[0]
    numbers = head.cell_numbers(len(network.names))
    if found.dim() != 3 or found.shape[3 - head.cells_dim] != numbers or not found.is_floating_point():
        raise InputError(
            f"{network.file}: its first output is {found.dtype} of {list(found.shape)}; float32 with "
            f"{numbers} numbers for each cell is expected; export it again"
        )
    return head.decoded_candidates(found, conf_thres)
