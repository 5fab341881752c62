"""What an engine is to the rest: it takes a network and gives something that runs batches of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sparsity.errors import InputError
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
        """Make ready for many batches of this size, as those do it who time them; may take seconds."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Maps -> the boxes above conf_thres, in pixels of the network's input."""


class Engine(Protocol):
    """Makes runners of networks; keeps what several networks of one shape have in common."""

    name: str

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> Runner:
        """Make a copy of the network ready. Raises InputError for one that the engine can't run."""


def require_cpu(engines: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raise InputError unless float32 on the CPU is asked for. engines: whom the error names."""
    if device.type != "cpu" or dtype != torch.float32:
        precision = str(dtype).removeprefix("torch.")
        raise InputError(
            f"--engine {engines} computes in float32 on the CPU; {precision} on {device} was asked for: "
            "give --device cpu, without --half"
        )
