"""Box geometry. The names give the formats; boxes are [n, 4]."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou_xyxy(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each box of first [n, 4] with each box of second [m, 4].

    The result is [n, m]; it is 0 for a pair of empty boxes.
    """
    # One coordinate at a time: the inner loops then run over contiguous memory.
    left, top, right, bottom = first.T[:, :, None]
    left2, top2, right2, bottom2 = second.T.contiguous()
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp_(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp_(min=0)
    overlap = width.mul_(height)
    areas = (right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2)
    union = (areas[0] + areas[1]).sub_(overlap).clamp_(min=torch.finfo(overlap.dtype).tiny)
    return overlap.div_(union)
