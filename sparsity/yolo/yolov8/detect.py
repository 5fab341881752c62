"""The Detect head of YOLOv8: raw maps, and the boxes that they encode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsity.yolo.cell_map import Cells
from sparsity.yolo.head import Candidates, Head, cells_xy, corners_xyxy, is_count
from sparsity.yolo.importance import anchor_free_importance
from sparsity.yolo.spec import ModuleSpec

SIDES = 4
"""Left, top, right, bottom: the distances of a box's sides from the centre of its cell, in strides."""
CHILDREN = ("cv2", "cv3", "dfl")


class Integers(nn.Module):
    """The numbers 0, 1, 2, ... as a buffer [1, count, 1, 1].

    Its name is that of the convolution's weight in checkpoints. It is neither a Conv2d nor a parameter:
    nothing that prunes, trains or counts weights finds it.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.arange(count, dtype=torch.float32).view(1, count, 1, 1))


class DFL(nn.Module):
    """Distributions over bins 0, 1, 2, ... -> their means (arXiv:2006.04388)."""

    def __init__(self, c1: int) -> None:
        super().__init__()
        if not is_count(c1):
            raise ValueError(f"a DFL has {c1!r} bins; a whole number is expected")
        self.conv = Integers(c1)

    def forward(self, logits: Tensor, dim: int) -> Tensor:
        """Logits with the bins along dim -> their means, without that dimension."""
        bins = self.conv.weight.flatten().to(logits.dtype)
        return (logits.movedim(dim, -1).softmax(-1) * bins).sum(-1)


class AnchorFreeDetect(Head):
    """Anchor-free head: for each map, cv2 gives 4 x reg_max box numbers and cv3 gives nc classes.

    cv2 and cv3 have three layers for each map. A raw map has both outputs, boxes first. The distance of a
    side from the cell's centre is the mean of a distribution over reg_max bins, one stride each.
    """

    dialect = "yolov8"
    cells_dim = 2

    def __init__(
        self,
        nc: int,
        reg_max: int,
        strides: Sequence[int],
        cv2: nn.ModuleList,
        cv3: nn.ModuleList,
        dfl: DFL,
    ) -> None:
        super().__init__()
        self.nc, self.reg_max, self.strides = nc, reg_max, tuple(strides)
        self.cv2, self.cv3, self.dfl = cv2, cv3, dfl

    @property
    def box_numbers(self) -> int:
        """The number of channels of a raw map that encode boxes. They come first."""
        return SIDES * self.reg_max

    @classmethod
    def misfit(cls, spec: ModuleSpec) -> str:
        nc, bins, strides = (spec.attributes[name] for name in ("nc", "reg_max", "strides"))
        if not is_count(nc) or not is_count(bins):
            return f"has nc {nc!r} and reg_max {bins!r}; whole numbers are expected"
        if set(spec.children) != set(CHILDREN):
            return f"has {', '.join(sorted(spec.children))}; {', '.join(CHILDREN)} are expected"
        if spec.children["dfl"].attributes.get("c1") != bins:
            return f"has reg_max {bins}, but its dfl has another number of bins"
        widths = [last_widths(spec.children[name]) for name in ("cv2", "cv3")]
        if not isinstance(strides, tuple) or widths != [[n] * len(strides) for n in (SIDES * bins, nc)]:
            return (
                f"has raw maps of {widths[0]} and {widths[1]} channels, strides {strides}; {SIDES * bins} "
                f"for boxes and {nc} for classes are expected in each"
            )
        return ""

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        return SIDES + nc

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        image, label, cell = (decoded[:, SIDES:] > conf_thres).nonzero().unbind(1)
        boxes_xyxy = corners_xyxy(decoded[image, :SIDES, cell])
        return Candidates(image, boxes_xyxy, decoded[image, SIDES + label, cell], label)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, one per stride -> raw maps [batch, 4 * reg_max + nc, height, width]."""
        branches = zip(self.cv2, self.cv3, maps, strict=True)
        return [torch.cat((boxes(x), classes(x)), 1) for boxes, classes, x in branches]

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, 4 + nc, cells]: cx, cy, w, h in pixels, classes.

        Cells are ordered by map, row, column.
        """
        decoded = []
        for x, stride in zip(raw, self.strides, strict=True):
            x = x.float()
            bins = (x.shape[0], SIDES, self.reg_max, *x.shape[2:])  # ONNX has no unflatten before opset 13
            sides = self.dfl(x[:, : self.box_numbers].reshape(bins), 2)
            places = cells_xy(x.shape[2], x.shape[3], x.device).permute(2, 0, 1)
            boxes = boxes_cxcywh(sides, places, 1) * stride
            decoded.append(torch.cat((boxes, x[:, self.box_numbers :].sigmoid()), 1).flatten(2))
        return torch.cat(decoded, 2)

    def confidence(self, raw: Tensor) -> Tensor:
        """Return the score of each cell's best class."""
        return raw[:, self.box_numbers :].amax(1)

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        return anchor_free_importance(raw, self.box_numbers)

    def decode_cells(self, cells: Cells, index: int, conf_thres: float) -> tuple[Tensor, ...]:
        sides = self.dfl(cells.values[:, : self.box_numbers].unflatten(1, (SIDES, self.reg_max)), 2)
        scores = cells.values[:, self.box_numbers :].sigmoid()
        return boxes_above(conf_thres, cells, sides, scores, self.strides[index])


def boxes_above(
    conf_thres: float, cells: Cells, sides: Tensor, scores: Tensor, stride: int
) -> tuple[Tensor, ...]:
    """Return the fields of Candidates for the scores of these cells that are above conf_thres.

    sides: [n, 4], see boxes_cxcywh. scores: [n, nc]. stride: pixels per cell.
    """
    places_xy = torch.stack((cells.column, cells.row), 1)
    boxes_xyxy = corners_xyxy(boxes_cxcywh(sides, places_xy, 1) * stride)
    box, label = (scores > conf_thres).nonzero().unbind(1)
    return cells.image[box], boxes_xyxy[box], scores[box, label], label


def boxes_cxcywh(sides: Tensor, places_xy: Tensor, dim: int) -> Tensor:
    """Distances of sides, 4 along dim, and columns and rows of cells -> boxes, in strides.

    The distances, also in strides, are those of the left, top, right and bottom side from the cell's centre.
    """
    before, after = sides.chunk(2, dim)
    return torch.cat((places_xy.to(sides.dtype) + 0.5 + (after - before) / 2, before + after), dim)


def last_widths(branches: ModuleSpec) -> list[object]:
    """Return the output channels of the last layer of each map's branch."""
    last = [list(branch.children.values())[-1] for branch in branches.children.values() if branch.children]
    return [module.attributes.get("out_channels") for module in last]
