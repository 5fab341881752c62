"""Resizing and padding of images to a batch's shape, and the way back (a leaf).

Shapes are (height, width) in pixels; images are uint8 [height, width, 3].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Shape = tuple[int, int]
GREY = 114
BATCH_PADDING = 0.5
"""What is added to a batch's sides, in units of the stride, before they are rounded up."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies inside its letterbox: how it was scaled and what is left and above of it.

    original: the image's shape. resized: its shape in the letterbox. left, top: padding in pixels,
    halves kept, as YOLOv5 takes it off again.
    """

    original: Shape
    resized: Shape
    left: float
    top: float

    @property
    def gain(self) -> float:
        """Letterbox pixels per image pixel; of the height, used for both directions."""
        return self.resized[0] / self.original[0]

    def to_image_xyxy(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] in letterbox pixels -> in image pixels, clipped to the image."""
        height, width = self.original
        offset = np.array([self.left, self.top] * 2, boxes_xyxy.dtype)
        limit = np.array([width, height] * 2, boxes_xyxy.dtype)
        return ((boxes_xyxy - offset) / boxes_xyxy.dtype.type(self.gain)).clip(0, limit)

    def to_letterbox_xyxy(self, boxes_cxcywhn: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] normalised to the image -> corners in letterbox pixels."""
        height, width = self.resized
        centre, half = boxes_cxcywhn[:, :2], boxes_cxcywhn[:, 2:] / 2
        corners = np.concatenate((centre - half, centre + half), 1)
        scale = np.array([width, height] * 2, corners.dtype)
        return corners * scale + np.array([self.left, self.top] * 2, corners.dtype)


def batch_shapes(ratios: Sequence[float], batch_size: int, imgsz: int, stride: int) -> list[Shape]:
    """The shape of each batch, for images' height / width in the order in which they are batched.

    A batch is as wide and as high as its images need, a multiple of stride.
    """
    shapes = []
    for start in range(0, len(ratios), batch_size):
        batch = ratios[start : start + batch_size]
        height, width = 1.0, 1.0
        if max(batch) < 1:
            height = max(batch)
        elif min(batch) > 1:
            width = 1 / min(batch)
        shapes.append(
            (_rounded_up(height, imgsz, stride), _rounded_up(width, imgsz, stride)),
        )
    return shapes


def place(original: Shape, imgsz: int, shape: Shape) -> Placement:
    """Where an image comes to lie: longer side to imgsz, shrunk further where shape is smaller."""
    height, width = _long_side(original, imgsz)
    shrink = min(1.0, shape[0] / height, shape[1] / width)
    if shrink < 1:
        height, width = round(height * shrink), round(width * shrink)
    return Placement(original, (height, width), (shape[1] - width) / 2, (shape[0] - height) / 2)


def letterbox(image: np.ndarray, imgsz: int, out: np.ndarray) -> None:
    """Resize image to its place in out [height, width, 3], and fill the rest of out with grey."""
    placement = place(image.shape[:2], imgsz, out.shape[:2])
    first = _long_side(image.shape[:2], imgsz)
    if first != image.shape[:2]:
        shrinks = imgsz < max(image.shape[:2])
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, first[::-1], interpolation=method)
    height, width = placement.resized
    if placement.resized != first:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = round(placement.top - 0.1), round(placement.left - 0.1)
    out[:top], out[top + height :] = GREY, GREY
    out[top : top + height, :left], out[top : top + height, left + width :] = GREY, GREY
    out[top : top + height, left : left + width] = image


def _long_side(shape: Shape, imgsz: int) -> Shape:
    ratio = imgsz / max(shape)
    if ratio == 1:
        return shape
    return math.ceil(shape[0] * ratio), math.ceil(shape[1] * ratio)


def _rounded_up(side: float, imgsz: int, stride: int) -> int:
    return math.ceil(side * imgsz / stride + BATCH_PADDING) * stride
