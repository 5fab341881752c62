"""Our own engine, in which zeros cost nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.engines.engine import Engine
from sparsity.yolo.head import Candidates
from sparsity.yolo.network import Network


class SparseRunner:
    """A network whose nonzero weights are laid out for the engine's kernels."""

    memory_format = torch.contiguous_format

    def __init__(self, engine: ModuleType, network: Network) -> None:
        self._engine, self._compiled = engine, engine.CompiledNetwork(network)
        self._head = copy.deepcopy(network.head)

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Images -> raw maps."""
        return self._compiled(images)

    def settle(self, images: Tensor) -> None:
        """Measure which kernels suit these images' size best."""
        self._engine.tune(self._compiled, *images.shape[2:])

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Raw maps -> boxes."""
        return self._head.candidates(maps, conf_thres)


class SparseEngine(Engine):
    """Runs networks of known operations on a CPU, in float32."""

    name = "sparse"
    title = "the sparse engine"
    package = "numba"
    memory = 6.0
    skips_zeros = True

    def __init__(self) -> None:
        """Raise InputError where numba is missing."""
        optional_module("numba", "--engine sparse")
        self._engine = import_module("sparsity.sparse_engine")

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> SparseRunner:
        """Make a copy of the network ready. Raises InputError for one that the engine can't run."""
        self.check_device(device, dtype)
        if not isinstance(network, Network):
            raise InputError("an ONNX file is run by --engine onnxruntime or openvino, not by sparse")
        return SparseRunner(self._engine, network)
