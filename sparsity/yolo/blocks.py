"""Blocks that several families share. Each is constructed from ready-made modules.

Attribute names are those of the published checkpoints, because the weights are named after them.
Maps are [batch, channels, height, width].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsity.yolo.kind import Kind


def _in_place(activation: nn.Module) -> nn.Module:
    """Make an activation overwrite its input, which is always a new map. Memory traffic is its main cost."""
    if hasattr(activation, "inplace"):
        activation.inplace = True
    return activation


class Conv(nn.Module):
    """Convolution, batch norm (None once fused) and activation.

    A batch norm that keeps its statistics during training is folded into the weights at each call: that is
    the same function with the same gradients, and the maps are read and written once less.
    """

    def __init__(self, conv: nn.Conv2d, act: nn.Module, bn: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        if not isinstance(conv, nn.Conv2d) or not isinstance(bn, nn.BatchNorm2d | None):
            found = f"{type(conv).__name__} and {type(bn).__name__}"
            raise TypeError(f"a Conv of {found}; Conv2d and BatchNorm2d are expected")
        self.conv, self.bn, self.act = conv, bn, _in_place(act)

    def forward(self, x: Tensor) -> Tensor:
        if self.bn is not None and not self.bn.training and _learns(self.conv, x):
            return self.act(_convolve_folded(x, self.conv, self.bn))
        x = self.conv(x)
        return self.act(x if self.bn is None else self.bn(x))


def _learns(conv: nn.Conv2d, x: Tensor) -> bool:
    # While torch.fx traces the graph, x is no tensor, and the weight can be none. A graph has whole norms.
    traced = not isinstance(x, Tensor) or not isinstance(conv.weight, Tensor)
    return not traced and torch.is_grad_enabled() and conv.weight.requires_grad


def _convolve_folded(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return the batch norm, with its stored statistics, of the convolution of x."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    weight = conv.weight * scale[:, None, None, None]
    return conv._conv_forward(x, weight, norm.bias - mean * scale)


class Bottleneck(nn.Module):
    """Two convolutions. The input is added to their output if add is set."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = cv1, cv2, add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """Cross-stage partial block with three convolutions. m runs on the first branch."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.m = cv1, cv2, cv3, m

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling as in SPP, but by one small max pool that runs n times.

    The input is added to the output if add is set.
    """

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module, n: int = 3, add: bool = False) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m, self.n, self.add = cv1, cv2, m, n, add

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(self.n):
            maps.append(self.m(maps[-1]))
        y = self.cv2(torch.cat(maps, 1))
        return x + y if self.add else y


class Concat(nn.Module):
    """Concatenation of several maps along dimension d."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(maps), self.d)


KINDS: dict[str, Kind] = {
    "Conv": Kind(Conv),
    "Bottleneck": Kind(Bottleneck, ("add",)),
    "C3": Kind(C3),
    "SPPF": Kind(SPPF, defaults={"n": 3, "add": False}),
    "Concat": Kind(Concat, ("d",)),
}
"""Name of a kind -> how its modules are made."""
