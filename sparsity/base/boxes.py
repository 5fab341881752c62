"""Box geometry. The names give the formats; boxes are [n, 4]."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou_xyxy(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each box of first [n, 4] with each box of second [m, 4].

    The result is [n, m]; it is 0 for a pair of empty boxes.
    """
    # One coordinate at a time: the inner loops then run over contiguous memory.
    return _iou(first.T[:, :, None], second.T.contiguous())


def paired_iou_xyxy(boxes: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of the boxes number first [n] and number second [n] of boxes: [n].

    It equals box_iou_xyxy's to the bit.
    """
    columns = boxes.T.contiguous()
    return _iou(columns.index_select(1, first), columns.index_select(1, second))


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap of boxes by their corners, [4, ...] each, whose shapes fit together."""
    left, top, right, bottom = first
    left2, top2, right2, bottom2 = second
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp_(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp_(min=0)
    overlap = width.mul_(height)
    areas = (right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2)
    union = (areas[0] + areas[1]).sub_(overlap).clamp_(min=torch.finfo(overlap.dtype).tiny)
    return overlap.div_(union)
