"""What the engines that run ONNX graphs share: the graph of a network, and the boxes in what it gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.formats.onnx_file import Exporter, OnnxNetwork
from sparsity.yolo.families import DIALECTS
from sparsity.yolo.head import Candidates, Head
from sparsity.yolo.network import Network

Decode = Callable[[Sequence[Tensor], float], Candidates]


class Graphs:
    """Gives the ONNX graph of a network, serialised, and what decodes the maps that it gives."""

    def __init__(self) -> None:
        """Raise InputError where a package is missing."""
        self._exporter = Exporter(decoded=False, asked_by="--engine onnxruntime or openvino")

    def get(self, network: nn.Module) -> tuple[bytes, Decode]:
        """Of an ONNX file its own graph; of a network, one that ends in raw maps."""
        if isinstance(network, OnnxNetwork):
            return network.file.read_bytes(), partial(_decode_boxes, DIALECTS[network.dialect].head)
        if not isinstance(network, Network):
            raise InputError(f"a {type(network).__name__} can't be run as an ONNX graph")
        return self._exporter.export(network).SerializeToString(), copy.deepcopy(network.head).candidates


@contextmanager
def refused_by(engine: str) -> Iterator[None]:
    """Turn what an engine says against a network or its images into an InputError."""
    try:
        yield
    except Exception as error:
        # The engines' own exceptions have no public base.
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{engine} can't run this network: {reason}") from error


def _decode_boxes(head: type[Head], maps: Sequence[Tensor], conf_thres: float) -> Candidates:
    return head.decoded_candidates(maps[0], conf_thres)
