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
            values = cells.float().sigmoid()
            places = _cells_xy(cells.shape[1], cells.shape[2], cells.device)
            boxes = self._boxes_cxcywh(values[..., :4], places, self.anchors[level], level)
            levels.append(torch.cat((boxes, values[..., 4:]), 4).flatten(1, 3))
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
        shapes = [(x.shape[0], x.shape[2], x.shape[3], self.na, 5 + self.nc) for x in raw]
        return [x.permute(0, 2, 3, 1).reshape(shape) for x, shape in zip(raw, shapes, strict=True)]

    def _level_candidates(self, cells: Tensor, level: int, conf_thres: float) -> tuple[Tensor, ...]:
        objectness = cells[..., 4].float().sigmoid()
        index = (objectness > conf_thres).nonzero()
        image, row, column, anchor = index.unbind(1)
        values = cells[image, row, column, anchor].float().sigmoid()
        cell_xy = torch.stack((column, row), 1)
        boxes = self._boxes_cxcywh(values[:, :4], cell_xy, self.anchors[level][anchor], level)
        return _passing(image, boxes, values[:, 4:], conf_thres)

    def _boxes_cxcywh(self, values: Tensor, cell_xy: Tensor, anchors: Tensor, level: int) -> Tensor:
        """Sigmoids [..., 4], their cells [..., 2] and anchors [..., 2] in strides -> boxes in pixels."""
        stride = self.strides[level]
        centre = (values[..., :2] * 2 - 0.5 + cell_xy.to(values.dtype)) * stride
        return torch.cat((centre, (values[..., 2:4] * 2) ** 2 * (anchors.to(values.dtype) * stride)), -1)


def decoded_candidates(decoded: Tensor, conf_thres: float) -> Candidates:
    """What decode gives -> the boxes whose objectness, and objectness x class, are above conf_thres."""
    image, cell = (decoded[..., 4] > conf_thres).nonzero().unbind(1)
    rows = decoded[image, cell]
    return Candidates(*_passing(image, rows[:, :4], rows[:, 4:], conf_thres))


def _passing(
    image: Tensor, boxes_cxcywh: Tensor, confidences: Tensor, conf_thres: float
) -> tuple[Tensor, ...]:
    """Images [n], boxes [n, 4], objectness and classes [n, 1 + nc] -> the fields of Candidates."""
    scores = confidences[:, :1] * confidences[:, 1:]
    box, label = (scores > conf_thres).nonzero().unbind(1)
    x, y, w, h = boxes_cxcywh.unbind(1)
    boxes_xyxy = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)
    return image[box], boxes_xyxy[box], scores[box, label], label


def _cells_xy(height: int, width: int, device: torch.device) -> Tensor:
    """[height, width, 1, 2]: each cell's column and row."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    grid = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), 2)
    return grid[:, :, None]
