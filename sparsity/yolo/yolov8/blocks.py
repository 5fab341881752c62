"""The block that YOLOv8 networks add to those of YOLOv5. It is constructed from ready-made modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class C2f(nn.Module):
    """Cross-stage partial block: half of cv1's channels runs through m, and every output of m is kept.

    cv1's channels are split into two halves. The halves lose the same channels.
    """

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.ModuleList) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = cv1, cv2, m

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.cv1(x).chunk(2, 1)
        parts = [first, second]
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))
