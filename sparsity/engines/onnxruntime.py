"""The engine ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sparsity.engines.graph_engine import GraphEngine
from sparsity.engines.graphs import Decode, refused_by
from sparsity.yolo.head import Candidates


class OnnxRuntimeRunner:
    """Runs one graph, with one session for each number of threads."""

    memory_format = torch.contiguous_format

    def __init__(self, runtime: ModuleType, graph: bytes, decode: Decode) -> None:
        self._runtime, self._graph, self._decode = runtime, graph, decode
        self._sessions: dict[int, Any] = {}
        self._lock = Lock()
        self._session()

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the raw maps of images, or the boxes, if the graph of an ONNX file decodes them."""
        session = self._session()
        feed = {session.get_inputs()[0].name: images.contiguous().numpy()}
        with refused_by("onnxruntime"):
            return [torch.from_numpy(one) for one in session.run(None, feed)]

    def settle(self, images: Tensor) -> None:
        """Do nothing: a session does not depend on the size."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return the boxes in the maps."""
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
        # What it would print, its exceptions say, too.
        options.log_severity_level = 4
        # Without this, its threads spin after a run, and slow down the engine that computes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with refused_by("onnxruntime"):
            return self._runtime.InferenceSession(
                self._graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )


class OnnxRuntimeEngine(GraphEngine):
    """Runs networks and ONNX files in ONNX Runtime."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    package = "onnxruntime"
    memory = 4.5

    def make_runner(self, graph: bytes, decode: Decode) -> OnnxRuntimeRunner:
        """Return a runner of a serialised graph."""
        return OnnxRuntimeRunner(self.module, graph, decode)
