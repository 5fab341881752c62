"""The blocks that YOLO11 networks add to those of YOLOv8. Each is constructed from ready-made modules.

Attribute names are those of the published checkpoints, because the weights are named after them.
Maps are [batch, channels, height, width].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.yolo.attention import SelfAttention
from sparsity.yolo.blocks import C3
from sparsity.yolo.kind import Kind
from sparsity.yolo.yolov8.blocks import C2f


class PSABlock(nn.Module):
    """Attention, then two convolutions. Each part's input is added to its output if add is set."""

    def __init__(self, attn: nn.Module, ffn: nn.Module, add: bool) -> None:
        super().__init__()
        self.attn, self.ffn, self.add = attn, ffn, add

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


class C2PSA(nn.Module):
    """Cross-stage partial block: half of cv1's channels runs through m."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((first, self.m(second)), 1))


KINDS: dict[str, Kind] = {
    "C3k2": Kind(C2f, notes=("c",)),
    "C3k": Kind(C3),
    "C2PSA": Kind(C2PSA, notes=("c",)),
    "PSABlock": Kind(PSABlock, ("add",)),
    "Attention": Kind(SelfAttention, ("num_heads", "head_dim", "key_dim", "scale")),
}
"""Name of a kind -> how its modules are made. C3k2 and C3k differ from C2f and C3 in their blocks only."""
