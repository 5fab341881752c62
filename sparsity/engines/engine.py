"""What an engine is to the rest: it takes a network and gives something that runs batches of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.yolo.head import Candidates


class Runner(Protocol):
    """A network made ready on a device.

    memory_format: how it wants images laid out. Calls may come from several threads at a time; each
    computes with as many threads as torch is set to in the calling one.
    """

    memory_format: torch.memory_format

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """[batch, 3, height, width], RGB in 0 to 1 -> maps, as candidates takes them."""

    def settle(self, images: Tensor) -> None:
        """Prepare for many batches of this size, as a benchmark runs them; may take seconds."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Maps -> the boxes above conf_thres, in pixels of the network's input."""


class Engine(ABC):
    """Makes runners of networks, and shares what several networks of one shape have in common.

    Subclass it for an engine of your own, and add it with ENGINES.register(name, class).

    name: the name on the command line and in tables. title: the name in reports.
    package: the distribution that computes; its version is part of a figure's setup.
    devices: the types of torch devices that it runs on; float32 alone, unless precisions names more.
    memory: the memory that a copy of a network takes, in units of its weights.
    needs_graph: whether it runs ONNX graphs, which networks are traced into, and ONNX files; it is then made
    with graphs=, a Graphs that it shares with others, else without arguments.
    skips_zeros: whether zero weights make it faster.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    memory: ClassVar[float]
    needs_graph: ClassVar[bool] = False
    skips_zeros: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> Runner:
        """Make a copy of the network ready. Raises InputError for one that the engine can't run."""

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise InputError for a device or a precision that the engine does not have."""
        if device.type not in self.devices or dtype not in self.precisions:
            precision = str(dtype).removeprefix("torch.")
            raise InputError(
                f"--engine {self.name} computes in float32 on the CPU; {precision} on {device} was asked "
                "for; give --device cpu, without --half"
            )
