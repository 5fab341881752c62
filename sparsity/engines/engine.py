"""The interface of an engine: it prepares a network, and the result runs batches of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.yolo.head import Candidates


class Runner(Protocol):
    """A network that an engine has prepared on a device.

    memory_format: the memory format that images need. Several threads can call it at the same time. A call
    computes with torch.get_num_threads() threads, as set in the calling thread.
    """

    memory_format: torch.memory_format

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the maps of images [batch, 3, height, width], RGB in 0 to 1, as input for candidates."""

    def settle(self, images: Tensor) -> None:
        """Prepare for many batches of this size, such as those of a benchmark. This can take seconds."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return the boxes with a confidence above conf_thres, in pixels of the network's input."""


class Engine(ABC):
    """Makes runners of networks. It can share work between networks that differ in their weights only.

    To add an engine, subclass this and call ENGINES.register(name, class).

    name: the name on the command line and in tables. title: the name in reports.
    package: the distribution that computes. Its version is recorded with the figures.
    devices: the types of torch devices that it runs on.
    precisions: the data types of images that it takes; by default float32 only.
    computes_in: the data type that it computes in, where it is not that of the images.
    memory: the memory that a copy of a network takes, as a multiple of its weights' memory.
    needs_graph: whether it runs ONNX graphs: those of networks, by tracing, and ONNX files. If so, its class
    is called with graphs=, a Graphs that several engines share.
    needs_images: whether it learns from images. If so, its class is called with calibration=, batches of
    images [n, 3, height, width]; without any, prepare raises InputError.
    skips_zeros: whether zero weights make it faster.
    compiles: whether its first call takes longer than later ones, as it compiles.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    computes_in: ClassVar[torch.dtype | None] = None
    memory: ClassVar[float]
    needs_graph: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    skips_zeros: ClassVar[bool] = False
    compiles: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> Runner:
        """Return a runner of a copy of the network. Raises InputError if the engine can't run it."""

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise InputError for a device or a precision that the engine does not support."""
        if device.type not in self.devices or dtype not in self.precisions:
            precision = str(dtype).removeprefix("torch.")
            raise InputError(
                f"`engine` {self.name} computes in float32 on the CPU; {precision} on {device} was asked "
                "for; give `device` cpu, without `half`"
            )
