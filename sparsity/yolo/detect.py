"""The Detect head of YOLOv5: raw maps, and the boxes that they encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Candidates:
    """Boxes above the confidence threshold, one per box and class, of all images of a batch.

    image: int64 [n], the index in the batch.
    boxes_xyxy: float32 [n, 4], in pixels of the network's input.
    scores: float32 [n].
    classes: int64 [n].
    """

    image: Tensor
    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor


class Detect(nn.Module):
    """Anchor-based head: one 1x1 convolution a level, na x (4 box, 1 objectness, nc classes) channels.

    The buffer anchors is [levels, na, 2], width and height in units of the level's stride.
    """

    def __init__(self, nc: int, na: int, strides: Sequence[int], m: nn.ModuleList) -> None:
        super().__init__()
        self.nc, self.na, self.strides, self.m = nc, na, tuple(strides), m
        self.register_buffer("anchors", torch.zeros(len(m), na, 2))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, a level each -> raw maps [batch, na * (5 + nc), height, width]."""
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, cells, 5 + nc]: cx, cy, w, h in pixels, objectness, classes.

        Cells are in order of level, row, column, anchor.
        """
        levels = []
        for level, cells in enumerate(self._cells(raw)):
            index = torch.ones(cells.shape[:4], dtype=torch.bool, device=cells.device).nonzero()
            rows = cells.flatten(0, 3).float().sigmoid()
            boxes = self._boxes_cxcywh(rows[:, :4], index, level)
            levels.append(torch.cat((boxes, rows[:, 4:]), 1).unflatten(0, (len(cells), -1)))
        return torch.cat(levels, 1)

    def candidates(self, raw: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Raw maps -> the boxes whose objectness, and objectness x class, are above conf_thres.

        Only cells whose objectness passes are decoded, always in float32.
        """
        found = [
            self._level_candidates(cells, level, conf_thres) for level, cells in enumerate(self._cells(raw))
        ]
        return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _cells(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps -> [batch, height, width, na, 5 + nc], a view where the map is channels_last."""
        return [x.permute(0, 2, 3, 1).unflatten(3, (self.na, 5 + self.nc)) for x in raw]

    def _level_candidates(self, cells: Tensor, level: int, conf_thres: float) -> tuple[Tensor, ...]:
        objectness = cells[..., 4].float().sigmoid()
        index = (objectness > conf_thres).nonzero()
        image, row, column, anchor = index.unbind(1)
        values = cells[image, row, column, anchor].float().sigmoid()
        scores = values[:, 4:5] * values[:, 5:]
        box, label = (scores > conf_thres).nonzero().unbind(1)
        x, y, w, h = self._boxes_cxcywh(values[:, :4], index, level).unbind(1)
        boxes_xyxy = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)
        return image[box], boxes_xyxy[box], scores[box, label], label

    def _boxes_cxcywh(self, values: Tensor, index: Tensor, level: int) -> Tensor:
        """Sigmoids [n, 4] and their places [n, 4] (image, row, column, anchor) -> boxes in pixels."""
        stride = self.strides[level]
        cell_xy = index[:, (2, 1)].to(values.dtype)
        centre = (values[:, :2] * 2 - 0.5 + cell_xy) * stride
        anchor_wh = self.anchors[level].to(values.dtype)[index[:, 3]] * stride
        return torch.cat((centre, (values[:, 2:4] * 2) ** 2 * anchor_wh), 1)
