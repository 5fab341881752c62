"""Networks with batch norms, as slimming takes them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sparsity.yolo.network import Network, build
from sparsity.yolo.yolov5.architectures import SCALES, Scale, yolov5


@pytest.fixture
def unfused(monkeypatch) -> Callable[..., Network]:
    """Makes a narrow yolov5 of that depth, random throughout, its statistics too; scales are 0.5 to 1.5."""

    def make(name: str = "yolov5n", width: float = 1 / 32) -> Network:
        monkeypatch.setitem(SCALES, "narrow", Scale(SCALES[name].depth, width))
        torch.manual_seed(0)
        network = build(yolov5("narrow", nc=3), ("cat", "dog", "bird")).requires_grad_(False)
        network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]]).expand(3, 3, 2))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.1, 0.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -1, 1)
        return network

    return make
