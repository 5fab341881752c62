"""The engine OpenVINO, on the CPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from threading import Lock, local
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.engines.graph_engine import GraphEngine
from sparsity.engines.graphs import Decode, Graphs, refused_by
from sparsity.yolo.head import Candidates

MOST_COMPILED = 2
"""Number of compiled models that are kept. Each holds a copy of the weights."""


@cache
def _core(openvino: ModuleType) -> Any:
    """Return the one core of this process. It is never freed.

    A core gives the thread that makes it a stack for signal handlers. If another thread frees the core, that
    stack is gone, and the next signal (Ctrl-C, the end of a process that this one started) ends the process.
    """
    return openvino.Core()


class OpenVinoRunner:
    """Runs one graph, compiled for the shape of the images, as users of OpenVINO do it.

    Several threads that call at the same time use the streams of one model, compiled for all shapes. This is
    a little slower, but the shape changes with every batch of a validation.
    precision: OpenVINO's name of the type that convolutions compute in: f32 or bf16.
    """

    memory_format = torch.contiguous_format

    def __init__(self, openvino: ModuleType, graph: bytes, decode: Decode, precision: str) -> None:
        self._precision = precision
        self._core, self._graph, self._decode = _core(openvino), graph, decode
        self._threads = torch.get_num_threads()
        self._compiled: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock, self._requests = Lock(), local()
        with refused_by("openvino"):
            self._core.read_model(self._graph, b"")

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the raw maps of images, or the boxes, if the graph of an ONNX file decodes them."""
        with refused_by("openvino"):
            request = self._request(tuple(images.shape))
            outputs = request.infer([images.contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(one.copy()) for one in outputs.values()]

    def settle(self, images: Tensor) -> None:
        """Do nothing: the first call with a size compiles the model for it."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return the boxes in the maps."""
        return self._decode(maps, conf_thres)

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return this thread's infer request for images of this shape."""
        streams = max(1, self._threads // torch.get_num_threads())
        compiled = self._get((shape if streams == 1 else None, streams))
        if getattr(self._requests, "of", None) is not compiled:
            self._requests.of, self._requests.request = compiled, compiled.create_infer_request()
        return self._requests.request

    def _get(self, key: tuple[tuple[int, ...] | None, int]) -> Any:
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._compile(*key)
                while len(self._compiled) > MOST_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key]

    def _compile(self, shape: tuple[int, ...] | None, streams: int) -> Any:
        model = self._core.read_model(self._graph, b"")
        if shape is not None:
            model.reshape(list(shape))
        settings = {"INFERENCE_NUM_THREADS": self._threads, "INFERENCE_PRECISION_HINT": self._precision}
        return self._core.compile_model(model, "CPU", {**settings, "NUM_STREAMS": streams})


class OpenVinoEngine(GraphEngine):
    """Runs networks and ONNX files in OpenVINO."""

    name = "openvino"
    title = "OpenVINO"
    package = "openvino"
    memory = 6.6
    hint: ClassVar[str] = "f32"

    def __init__(self, graphs: Graphs | None = None) -> None:
        """graphs: to share with other engines. Raises InputError where a package is missing."""
        super().__init__(graphs)
        # OpenVINO makes its table of types on first use; two threads that do this at once deadlock (2026.4).
        self.module.Type.f32.to_dtype()

    def make_runner(self, graph: bytes, decode: Decode) -> OpenVinoRunner:
        """Return a runner of a serialised graph."""
        return OpenVinoRunner(self.module, graph, decode, self.hint)


class OpenVinoBf16Engine(OpenVinoEngine):
    """Runs networks and ONNX files in OpenVINO, with convolutions in bfloat16. Images, maps: float32."""

    name = "openvino-bf16"
    title = "OpenVINO in bfloat16"
    computes_in = torch.bfloat16
    hint = "bf16"

    def __init__(self, graphs: Graphs | None = None) -> None:
        """graphs: to share with other engines.

        Raises InputError where a package is missing, or where the CPU has no instructions for bfloat16.
        """
        super().__init__(graphs)
        if "BF16" not in _core(self.module).get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                f"`engine` {self.name} needs a CPU with instructions for bfloat16 (AVX512_BF16 or AMX), and "
                "this one has none; `engine` openvino computes in float32"
            )
