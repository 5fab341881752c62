"""What a detector's head is to the rest, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsity.yolo.spec import ModuleSpec

MOST_CLASSES = 100_000


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


class Head(nn.Module):
    """A network's last layer: feature maps in, raw maps out, boxes by candidates().

    dialect: the key of families.DIALECTS. exact: buffers that stay float32 whatever the weights are.
    cells_dim: which dimension of what decode gives are the cells; the numbers of a cell are the other.
    nc: number of classes. strides: pixels per cell, a level each.
    """

    dialect: ClassVar[str]
    exact: ClassVar[tuple[str, ...]] = ()
    cells_dim: ClassVar[int]
    nc: int
    strides: tuple[int, ...]

    @classmethod
    def misfit(cls, spec: ModuleSpec) -> str:
        """What is wrong with a head of these modules, to follow its name; "" where they go together."""
        raise NotImplementedError

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        """How many numbers decode gives for a cell."""
        raise NotImplementedError

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        """What decode gives -> the boxes that candidates would give."""
        raise NotImplementedError

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> every cell's box, in pixels, and confidences, float32."""
        raise NotImplementedError

    def candidates(self, raw: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Raw maps -> the boxes whose confidence is above conf_thres, always decoded in float32."""
        raise NotImplementedError

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps -> weights of their squared errors, same shapes."""
        raise NotImplementedError


def is_count(number: object) -> bool:
    """Whether it may be a number of classes, anchors or bins."""
    return isinstance(number, int) and 0 < number < MOST_CLASSES


def corners_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Boxes [n, 4], centre and size -> corners."""
    x, y, w, h = boxes_cxcywh.unbind(1)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)


def cells_xy(height: int, width: int, device: torch.device) -> Tensor:
    """[height, width, 2]: each cell's column and row."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    return torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), 2)
