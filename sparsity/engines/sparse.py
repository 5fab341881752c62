"""The sparse engine: this package's engine, which skips zeros."""

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
from sparsity.engines.table import check_images
from sparsity.yolo.head import Candidates
from sparsity.yolo.network import Network


class SparseRunner:
    """A network compiled for the sparse engine."""

    memory_format = torch.contiguous_format

    def __init__(
        self, engine: ModuleType, network: Network, dtype: torch.dtype, calibration: Sequence[Tensor] = ()
    ) -> None:
        self._engine = engine
        self._compiled = engine.CompiledNetwork(network, dtype=dtype, calibration=calibration)
        self._head = copy.deepcopy(network.head)

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the raw maps of images, not copied from the engine's memory before someone reads them."""
        return self._compiled.compute(images)

    def settle(self, images: Tensor) -> None:
        """Measure which kernels are fastest for images of this size."""
        self._engine.tune(self._compiled, *images.shape[2:])

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return the boxes in the raw maps. Only the cells that hold some are copied."""
        return self._head.candidates(maps.cells(), conf_thres)


class SparseEngine(Engine):
    """Runs networks on a CPU, in float32, and skips their zeros. It does not support every operation."""

    name = "sparse"
    title = "the sparse engine"
    package = "numba"
    memory = 6.0
    skips_zeros = True
    compiles = True
    _calibration: Sequence[Tensor] = ()

    def __init__(self) -> None:
        """Raise InputError where numba is missing."""
        optional_module("numba", f"`engine` {self.name}")
        self._engine = import_module("sparsity.sparse_engine")

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> SparseRunner:
        """Return a runner of a copy of the network. Raises InputError if the engine can't run it."""
        self.check_device(device, dtype)
        if not isinstance(network, Network):
            raise InputError(f"an ONNX file is run by `engine` onnxruntime or openvino, not by {self.name}")
        return SparseRunner(self._engine, network, self.computes_in or torch.float32, self._calibration)


class SparseBf16Engine(SparseEngine):
    """Runs networks on a CPU, with feature maps and weights in bfloat16. Images, raw maps: float32.

    It skips a pair of input channels where both weights are zero.
    """

    name = "sparse-bf16"
    title = "the sparse engine in bfloat16"
    computes_in = torch.bfloat16

    def __init__(self) -> None:
        """Raise InputError where numba is missing, or the CPU has no instructions for bfloat16."""
        super().__init__()
        if not self._engine.HAS_BFLOAT16:
            raise InputError(
                f"`engine` {self.name} needs a CPU with instructions for bfloat16 (AVX512_BF16), and this "
                "one has none; `engine` sparse computes in float32"
            )


class SparseInt8Engine(SparseEngine):
    """Runs networks on a CPU, with feature maps and weights of 8 bits. Images, raw maps: float32.

    Calibration images set the scales, again for each network. It skips four input channels where all four
    weights are zero.
    """

    name = "sparse-int8"
    title = "the sparse engine in int8"
    needs_images = True
    computes_in = torch.int8

    def __init__(self, calibration: Sequence[Tensor] = ()) -> None:
        """Raise InputError where numba is missing, or the CPU has no instructions for bytes."""
        super().__init__()
        self._calibration = calibration
        if not self._engine.HAS_INT8:
            raise InputError(
                f"`engine` {self.name} needs a CPU with instructions for 8 bits (AVX512_VNNI), and this one "
                "has none; `engine` sparse computes in float32"
            )

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> SparseRunner:
        """Return a runner of a copy of the network. Raises InputError without images, too."""
        check_images([self.name], bool(self._calibration))
        return super().prepare(network, device, dtype)
