"""Complete IoU: overlap, distance and aspect ratio in one number, with a gradient everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-7


def complete_iou_cxcywh(first: Tensor, second: Tensor) -> Tensor:
    """Return the complete IoU of each box of first with the box of second at the same index, [n, 4] -> [n].

    It is 1 for equal boxes, and below 0 for boxes far apart. The unit of the boxes does not matter unless
    they are much smaller than 1. The trade-off alpha has no gradient. Source: arXiv:1911.08287.
    """
    wh, wh2 = first[:, 2:], second[:, 2:]
    apart, middle = (first[:, :2] - second[:, :2]).abs(), (wh + wh2) / 2
    overlap = torch.minimum(torch.minimum(wh, wh2), middle - apart).clamp(min=0).prod(1)
    around = torch.maximum(torch.maximum(wh, wh2), middle + apart)
    iou = overlap / (wh.prod(1) + wh2.prod(1) - overlap).clamp(min=EPSILON)
    distance = apart.square().sum(1) / around.square().sum(1).clamp(min=EPSILON)
    aspect = (_angle(wh) - _angle(wh2)).square() * (4 / math.pi**2)
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect).clamp(min=EPSILON)
    return iou - distance - alpha * aspect


def _angle(wh: Tensor) -> Tensor:
    """Sizes [n, 2] -> arctan of width over height [n], without a gradient where a side is 0."""
    width, height = wh.clamp(min=EPSILON).unbind(1)
    return torch.atan2(width, height)
