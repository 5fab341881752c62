"""Resizing and padding of images to the shape of a batch, and the mapping of boxes back to the image.

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
"""Added to the sides of a batch, in units of the stride, before they are rounded up."""


@dataclass(frozen=True)
class Resizing:
    """How an image is resized for the network, and how boxes are mapped back to the image.

    shrinking: OpenCV's interpolation for larger images; smaller images are enlarged linearly.
    capped: whether sides are limited to the network's size; rounding can otherwise make them a pixel longer.
    to_the_pixel: whether boxes use the padding in whole pixels, and a separate gain for each direction.
    Otherwise they use the padding with half pixels, and the gain of the height for both directions.
    """

    shrinking: int
    capped: bool
    to_the_pixel: bool


YOLOV5 = Resizing(cv2.INTER_AREA, capped=False, to_the_pixel=False)
"""The resizing of YOLOv5's validation."""
YOLOV8 = Resizing(cv2.INTER_LINEAR, capped=True, to_the_pixel=True)
"""The resizing of YOLOv8's validation."""


@dataclass(frozen=True)
class Placement:
    """The place of an image in its letterbox: its scale, and the padding at the left and at the top.

    original: the image's shape. resized: its shape in the letterbox. left, top: padding in pixels, with
    halves, as YOLOv5 subtracts it. own_gains: whether boxes are mapped back with a separate gain for each
    direction.
    """

    original: Shape
    resized: Shape
    left: float
    top: float
    own_gains: bool = False

    @property
    def gain(self) -> float:
        """Letterbox pixels per image pixel, in the direction of the height."""
        return self.resized[0] / self.original[0]

    def to_image_xyxy(self, boxes_xyxy: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Map boxes [n, 4] from letterbox pixels to image pixels. clip: whether to clip them to the image."""
        height, width = self.original
        offset = np.array([self.left, self.top] * 2, boxes_xyxy.dtype)
        across = self.resized[1] / width if self.own_gains else self.gain
        boxes = (boxes_xyxy - offset) / np.array([across, self.gain] * 2, boxes_xyxy.dtype)
        return boxes.clip(0, np.array([width, height] * 2, boxes_xyxy.dtype)) if clip else boxes

    def to_letterbox_xyxy(self, boxes_cxcywhn: np.ndarray) -> np.ndarray:
        """Map boxes [n, 4], normalised to the image, to corners in letterbox pixels."""
        height, width = self.resized
        centre, half = boxes_cxcywhn[:, :2], boxes_cxcywhn[:, 2:] / 2
        corners = np.concatenate((centre - half, centre + half), 1)
        scale = np.array([width, height] * 2, corners.dtype)
        return corners * scale + np.array([self.left, self.top] * 2, corners.dtype)


def batch_shapes(ratios: Sequence[float], batch_size: int, imgsz: int, stride: int) -> list[Shape]:
    """Return the shape of each batch. ratios: height / width of the images, in the order of batching.

    A batch is as wide and as high as its images need, rounded up to a multiple of stride.
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


def place(original: Shape, imgsz: int, shape: Shape, resizing: Resizing = YOLOV5) -> Placement:
    """Return the place of an image: its longer side becomes imgsz, or less where shape is smaller."""
    height, width = _long_side(original, imgsz, resizing)
    shrink = min(1.0, shape[0] / height, shape[1] / width)
    if shrink < 1:
        height, width = round(height * shrink), round(width * shrink)
    left, top = (shape[1] - width) / 2, (shape[0] - height) / 2
    if resizing.to_the_pixel:
        left, top = _whole(left), _whole(top)
    return Placement(original, (height, width), left, top, resizing.to_the_pixel)


def letterbox(image: np.ndarray, imgsz: int, out: np.ndarray, resizing: Resizing = YOLOV5) -> None:
    """Resize image to its place in out [height, width, 3], and fill the rest of out with grey."""
    placement = place(image.shape[:2], imgsz, out.shape[:2], resizing)
    first = _long_side(image.shape[:2], imgsz, resizing)
    if first != image.shape[:2]:
        shrinks = imgsz < max(image.shape[:2])
        method = resizing.shrinking if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, first[::-1], interpolation=method)
    height, width = placement.resized
    if placement.resized != first:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = _whole(placement.top), _whole(placement.left)
    out[:top], out[top + height :] = GREY, GREY
    out[top : top + height, :left], out[top : top + height, left + width :] = GREY, GREY
    out[top : top + height, left : left + width] = image


def _whole(padding: float) -> int:
    """Round the padding at the left or top. Of an odd sum, the larger half is at the right or bottom."""
    return round(padding - 0.1)


def _long_side(shape: Shape, imgsz: int, resizing: Resizing) -> Shape:
    ratio = imgsz / max(shape)
    if ratio == 1:
        return shape
    height, width = math.ceil(shape[0] * ratio), math.ceil(shape[1] * ratio)
    return (min(height, imgsz), min(width, imgsz)) if resizing.capped else (height, width)


def _rounded_up(side: float, imgsz: int, stride: int) -> int:
    return math.ceil(side * imgsz / stride + BATCH_PADDING) * stride
