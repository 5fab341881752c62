"""The engine PyTorch: eager mode, channels_last, and oneDNN convolutions on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.engines.engine import Engine
from sparsity.yolo.head import Candidates
from sparsity.yolo.network import Network


class TorchRunner:
    """A copy of a network on a device, in a precision. Boxes are always decoded in float32."""

    memory_format = torch.channels_last

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        self.network = copy.deepcopy(network).eval()
        head = self.network.head
        exact = {name: getattr(head, name).float() for name in head.exact}
        self.network.to(device, dtype, memory_format=torch.channels_last)
        for name, buffer in exact.items():
            setattr(head, name, buffer.to(device))
        if device.type == "cpu" and dtype == torch.float32:
            _use_onednn(self.network)

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Return the raw maps of images."""
        return self.network(images)

    def settle(self, images: Tensor) -> None:
        """Do nothing: PyTorch needs no preparation for a size."""

    def candidates(self, maps: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Return the boxes in the raw maps."""
        return self.network.candidates(maps, conf_thres)


class TorchEngine(Engine):
    """PyTorch. It runs every network, on every device."""

    name = "torch"
    title = "PyTorch"
    package = "torch"
    devices = ("cpu", "cuda", "mps")
    precisions = (torch.float32, torch.float16, torch.bfloat16)
    memory = 1.2

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> TorchRunner:
        """Return a runner of a copy of the network. Raises InputError for an ONNX file."""
        if not isinstance(network, Network):
            raise InputError("an ONNX file is run by `engine` onnxruntime or openvino, not by torch")
        return TorchRunner(network, device, dtype)


class _OneDnnConv2d(nn.Conv2d):
    """A Conv2d that always uses oneDNN.

    On one thread, PyTorch computes 1 x 1 convolutions with another kernel, which copies channels_last maps to
    another format and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def _use_onednn(network: nn.Module) -> None:
    """Make every Conv2d use oneDNN, in place, if this PyTorch has it."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch, "mkldnn_convolution"):
        return
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = _OneDnnConv2d
