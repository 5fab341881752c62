"""The Detect head of YOLOv5: raw maps, and the boxes that they encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsity.yolo.cell_map import Cells
from sparsity.yolo.head import Candidates, Head, cells_xy, corners_xyxy, is_count
from sparsity.yolo.importance import raw_map_importance
from sparsity.yolo.spec import ModuleSpec


class Detect(Head):
    """Anchor-based head: one 1x1 convolution per map, to na x (4 box, 1 objectness, nc classes) channels.

    The buffer anchors is [maps, na, 2]: width and height in units of the map's stride.
    """

    dialect = "yolov5"
    exact: ClassVar[tuple[str, ...]] = ("anchors",)
    cells_dim = 1

    def __init__(self, nc: int, na: int, strides: Sequence[int], m: nn.ModuleList) -> None:
        super().__init__()
        self.nc, self.na, self.strides, self.m = nc, na, tuple(strides), m
        self.register_buffer("anchors", torch.zeros(len(m), na, 2))

    @classmethod
    def misfit(cls, spec: ModuleSpec) -> str:
        nc, na, strides = (spec.attributes[name] for name in ("nc", "na", "strides"))
        if not is_count(nc) or not is_count(na):
            return f"has nc {nc!r} and na {na!r}; whole numbers are expected"
        maps = spec.children["m"].children.values() if "m" in spec.children else ()
        widths = [conv.attributes.get("out_channels") for conv in maps]
        if not isinstance(strides, tuple) or widths != [na * (5 + nc)] * len(strides):
            return (
                f"has raw maps of {widths} channels, strides {strides}; {na * (5 + nc)} channels "
                f"per map are expected for {nc} classes"
            )
        return ""

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        return 5 + nc

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        image, cell = (decoded[..., 4] > conf_thres).nonzero().unbind(1)
        rows = decoded[image, cell]
        return Candidates(*_passing(image, rows[:, :4], rows[:, 4:], conf_thres))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, one per stride -> raw maps [batch, na * (5 + nc), height, width]."""
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, cells, 5 + nc]: cx, cy, w, h in pixels, objectness, classes.

        Cells are ordered by map, row, column, anchor.
        """
        decoded = []
        for index, cells in enumerate(self._cells(raw)):
            values = cells.float().sigmoid()
            places = cells_xy(cells.shape[1], cells.shape[2], cells.device)[:, :, None]
            boxes = self._boxes_cxcywh(values[..., :4], places, self.anchors[index], index)
            decoded.append(torch.cat((boxes, values[..., 4:]), 4).flatten(1, 3))
        return torch.cat(decoded, 1)

    def confidence(self, raw: Tensor) -> Tensor:
        """Return the largest objectness of the anchors of each cell."""
        return raw[:, 4 :: 5 + self.nc].amax(1)

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        return raw_map_importance(raw, self.na)

    def _cells(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps -> [batch, height, width, na, 5 + nc], a view if the map is channels_last."""
        shapes = [(x.shape[0], x.shape[2], x.shape[3], self.na, 5 + self.nc) for x in raw]
        return [x.permute(0, 2, 3, 1).reshape(shape) for x, shape in zip(raw, shapes, strict=True)]

    def decode_cells(self, cells: Cells, index: int, conf_thres: float) -> tuple[Tensor, ...]:
        values = cells.values.unflatten(1, (self.na, 5 + self.nc)).sigmoid()
        cell, anchor = (values[..., 4] > conf_thres).nonzero().unbind(1)
        cell_xy = torch.stack((cells.column, cells.row), 1)[cell]
        values = values[cell, anchor]
        boxes = self._boxes_cxcywh(values[:, :4], cell_xy, self.anchors[index][anchor], index)
        return _passing(cells.image[cell], boxes, values[:, 4:], conf_thres)

    def _boxes_cxcywh(self, values: Tensor, cell_xy: Tensor, anchors: Tensor, index: int) -> Tensor:
        """Sigmoids [..., 4], their cells [..., 2] and anchors [..., 2] in strides -> boxes in pixels."""
        stride = self.strides[index]
        centre = (values[..., :2] * 2 - 0.5 + cell_xy.to(values.dtype)) * stride
        return torch.cat((centre, (values[..., 2:4] * 2) ** 2 * (anchors.to(values.dtype) * stride)), -1)


def _passing(
    image: Tensor, boxes_cxcywh: Tensor, confidences: Tensor, conf_thres: float
) -> tuple[Tensor, ...]:
    """Images [n], boxes [n, 4], objectness and classes [n, 1 + nc] -> the fields of Candidates."""
    scores = confidences[:, :1] * confidences[:, 1:]
    box, label = (scores > conf_thres).nonzero().unbind(1)
    return image[box], corners_xyxy(boxes_cxcywh)[box], scores[box, label], label
