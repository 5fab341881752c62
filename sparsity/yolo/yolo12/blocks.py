"""The blocks that only YOLO12 networks have. Each is constructed from ready-made modules.

Attribute names are those of the published checkpoints, because the weights are named after them.
Maps are [batch, channels, height, width].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.yolo.attention import area_attention
from sparsity.yolo.kind import Kind

FIRST_GAMMA = 0.01
"""The value of gamma before training (arXiv:2502.12524, 3.3)."""


class ABlock(nn.Module):
    """Attention, then two convolutions. Each part's input is added to its output."""

    def __init__(self, attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn, self.mlp = attn, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class A2C2f(nn.Module):
    """Residual efficient layer aggregation: cv1's output and every output of m are kept (arXiv:2502.12524).

    With residual, the output is multiplied by gamma, one number for each channel, and the input is added.
    """

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.ModuleList, residual: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m
        channels = cv2.conv.out_channels
        self.gamma = nn.Parameter(torch.full((channels,), FIRST_GAMMA)) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for block in self.m:
            parts.append(block(parts[-1]))
        y = self.cv2(torch.cat(parts, 1))
        return y if self.gamma is None else x + self.gamma.view(1, -1, 1, 1) * y


KINDS: dict[str, Kind] = {
    "ABlock": Kind(ABlock),
    "A2C2f": Kind(A2C2f, present={"residual": "gamma"}, fixed={"gamma": (None,)}),
    "AAttn": Kind(area_attention, ("area", "num_heads", "head_dim"), notes=("all_head_dim",)),
}
"""Name of a kind -> how its modules are made."""
