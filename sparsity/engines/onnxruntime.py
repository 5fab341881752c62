"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.base.optional import optional_module
from sparsity.engines.engine import Engine
from sparsity.engines.graphs import Decode, Graphs, refused_by
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
        feed = {session.get_inputs()[0].name: images.contiguous().numpy()}
        with refused_by("onnxruntime"):
            return [torch.from_numpy(one) for one in session.run(None, feed)]

    def settle(self, images: Tensor) -> None:
        """Nothing is made for a size."""

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
        # Its threads would spin on after a run, and hold up whichever engine computes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with refused_by("onnxruntime"):
            return self._runtime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeEngine(Engine):
    """Runs networks, and ONNX files, by onnxruntime."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    package = "onnxruntime"
    memory = 4.5
    needs_graph = True

    def __init__(self, graphs: Graphs | None = None) -> None:
        """graphs: those that several engines share. Raises InputError where a package is missing."""
        self._runtime = optional_module("onnxruntime", "--engine onnxruntime")
        self._graphs = graphs or Graphs()

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> OnnxRuntimeRunner:
        """Make a copy of the network ready. Raises InputError for another device or precision."""
        self.check_device(device, dtype)
        return OnnxRuntimeRunner(self._runtime, *self._graphs.get(network))
