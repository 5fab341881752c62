"""Box geometry (a leaf). Formats are in the names; boxes are [n, 4]."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou_xyxy(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every box of first [n, 4] with every one of second [m, 4].

    Returns [n, m]; 0 for a pair of empty boxes.
    """
    # Coordinate by coordinate, so that the inner loops run over memory that lies in one piece.
    left, top, right, bottom = first.T[:, :, None]
    left2, top2, right2, bottom2 = second.T.contiguous()
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp_(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp_(min=0)
    overlap = width.mul_(height)
    areas = (right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2)
    union = (areas[0] + areas[1]).sub_(overlap).clamp_(min=torch.finfo(overlap.dtype).tiny)
    return overlap.div_(union)
