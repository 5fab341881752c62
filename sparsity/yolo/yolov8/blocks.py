"""The block that YOLOv8 networks have beside those of YOLOv5, given its modules ready made."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class C2f(nn.Module):
    """Cross-stage partial block: one half of cv1's channels runs through m, and all that it gives is kept.

    cv1's channels are split in two halves, so that they lose channels together.
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
