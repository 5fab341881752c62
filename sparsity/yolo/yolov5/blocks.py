"""Blocks that only YOLOv5 networks have. Each is constructed from ready-made modules.

Attribute names are those of the published checkpoints, because the weights are named after them.
Maps are [batch, channels, height, width].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.yolo.kind import Kind


class BottleneckCSP(nn.Module):
    """Cross-stage partial block of the first releases.

    cv2 and cv3 are bare convolutions. One batch norm covers both branches.
    Source: https://github.com/WongKinYiu/CrossStagePartialNetworks
    """

    def __init__(
        self,
        cv1: nn.Module,
        cv2: nn.Module,
        cv3: nn.Module,
        cv4: nn.Module,
        bn: nn.Module,
        act: nn.Module,
        m: nn.Module,
    ) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4 = cv1, cv2, cv3, cv4
        self.bn, self.act, self.m = bn, act, m

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(branches)))


class SPP(nn.Module):
    """Spatial pyramid pooling: parallel max pools (arXiv:1406.4729)."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.ModuleList) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class Focus(nn.Module):
    """The stem before v6.0: every second pixel in each direction becomes a group of channels."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        phases = ((0, 0), (1, 0), (0, 1), (1, 1))
        return self.conv(torch.cat([x[..., row::2, column::2] for row, column in phases], 1))


class Contract(nn.Module):
    """Space to depth: [b, c, h, w] -> [b, c * gain^2, h / gain, w / gain]."""

    def __init__(self, gain: int) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        cells = x.unflatten(3, (-1, self.gain)).unflatten(2, (-1, self.gain))
        return cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


class Expand(nn.Module):
    """Depth to space: [b, c, h, w] -> [b, c / gain^2, h * gain, w * gain]."""

    def __init__(self, gain: int) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        cells = x.unflatten(1, (self.gain, self.gain, -1))
        return cells.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


class GhostConv(nn.Module):
    """One half of the channels by a convolution, the other by a cheap one on the first (arXiv:1911.11907)."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2 = cv1, cv2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class GhostBottleneck(nn.Module):
    """Ghost convolutions with a shortcut (arXiv:1911.11907)."""

    def __init__(self, conv: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv, self.shortcut = conv, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


class TransformerLayer(nn.Module):
    """Self-attention, then two linear layers, each part with a shortcut, without layer norm."""

    def __init__(
        self,
        q: nn.Module,
        k: nn.Module,
        v: nn.Module,
        ma: nn.MultiheadAttention,
        fc1: nn.Module,
        fc2: nn.Module,
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.ma, self.fc1, self.fc2 = q, k, v, ma, fc1, fc2

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0]
        return x + self.fc2(self.fc1(x))


class TransformerBlock(nn.Module):
    """Transformer layers over the cells of a map, with a learned position term."""

    def __init__(self, linear: nn.Module, tr: nn.Module, conv: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.linear, self.tr = conv, linear, tr

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.conv is None else self.conv(x)
        cells = x.flatten(2).permute(2, 0, 1)
        cells = self.tr(cells + self.linear(cells))
        return cells.permute(1, 2, 0).reshape(x.shape)


KINDS: dict[str, Kind] = {
    "BottleneckCSP": Kind(BottleneckCSP),
    "SPP": Kind(SPP),
    "Focus": Kind(Focus),
    "Contract": Kind(Contract, ("gain",)),
    "Expand": Kind(Expand, ("gain",)),
    "GhostConv": Kind(GhostConv),
    "GhostBottleneck": Kind(GhostBottleneck),
    "TransformerLayer": Kind(TransformerLayer),
    "TransformerBlock": Kind(TransformerBlock, fixed={"conv": (None,)}, notes=("c2",)),
}
"""Name of a kind -> how its modules are made."""
