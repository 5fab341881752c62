"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.engines.graphs import Decode, Graphs
from sparsity.errors import InputError
from sparsity.optional import optional_module
from sparsity.yolo.head import Candidates


class OnnxRuntimeRunner:
    """Sessions of one graph, by number of threads."""

    memory_format = torch.contiguous_format

    def __init__(self, runtime: ModuleType, graph: bytes, decode: Decode) -> None:
        self._runtime, self._graph, self._decode = runtime, graph, decode
        self._sessions: dict[int, Any] = {}
        self._lock = Lock()
        self._session()

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Images -> raw maps, or the boxes of a file that decodes them."""
        session = self._session()
        name = session.get_inputs()[0].name
        return [torch.from_numpy(one) for one in session.run(None, {name: images.contiguous().numpy()})]

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Maps -> boxes."""
        return self._decode(maps, conf_thres)

    def _session(self) -> Any:
        threads = torch.get_num_threads()
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._open(threads)
            return self._sessions[threads]

    def _open(self, threads: int) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return self._runtime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its own exceptions have no public base.
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"onnxruntime can't run this network: {reason}") from error


class OnnxRuntimeEngine:
    """Runs networks, and ONNX files, by onnxruntime."""

    name = "onnxruntime"

    def __init__(self, graphs: Graphs | None = None) -> None:
        """graphs: those that several engines share. Raises InputError where a package is missing."""
        self._runtime = optional_module("onnxruntime", "--engine onnxruntime")
        self._graphs = graphs or Graphs()

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> OnnxRuntimeRunner:
        """Make a copy of the network ready."""
        return OnnxRuntimeRunner(self._runtime, *self._graphs.get(network, device, dtype))
