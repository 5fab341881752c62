"""Augmentation of training samples: mosaic or letterbox, scale and shift, colours, flip. Boxes are moved too.

Coordinates are continuous: pixel i covers i to i + 1. Pixels are uint8 [height, width, 3], RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sparsity.data.letterbox import GREY

SMALLEST_SIDE = 2.0
"""Boxes with a shorter side, in pixels of the sample, are dropped."""
SMALLEST_PART = 0.1
"""Boxes that keep less than this fraction of their area are dropped."""
LARGEST_ASPECT = 100.0
"""Boxes whose longer side is more than this many times the shorter side are dropped."""


@dataclass(frozen=True)
class Augmentation:
    """The strength of the augmentation. The defaults are YOLOv5's for training on COCO.

    mosaic, flip: probabilities. hue, saturation, value: each is multiplied by a factor within 1 ± its gain.
    translate: the largest shift, as a fraction of the sample's side. scale: the image is resized by a factor
    within 1 ± scale.
    """

    mosaic: float = 1.0
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4
    translate: float = 0.1
    scale: float = 0.5
    flip: float = 0.5


NONE = Augmentation(mosaic=0, hue=0, saturation=0, value=0, translate=0, scale=0, flip=0)
"""No augmentation: the letterboxed image."""


@dataclass(frozen=True)
class Sample:
    """Pixels uint8 [height, width, 3]; true boxes: classes [n], boxes float64 [n, 4] in pixels."""

    pixels: np.ndarray
    classes: np.ndarray
    boxes_xyxy: np.ndarray


def mosaic(tiles: Sequence[Sample], imgsz: int, rng: np.random.Generator) -> Sample:
    """Place four images on a grey square of 2 * imgsz, each with one corner at a common random centre.

    tiles: top left, top right, bottom left, bottom right. Their sides are at most imgsz, and their boxes lie
    inside them. Pixels that do not fit are cut off, but boxes are not clipped: transform clips them, and
    needs to know how much of them is lost.
    Source: the mosaic of YOLOv4 (Bochkovskiy et al. 2020).
    """
    canvas = _grey(2 * imgsz)
    centre_x, centre_y = rng.integers(imgsz // 2, 2 * imgsz - imgsz // 2, 2, endpoint=True).tolist()
    boxes = []
    for number, tile in enumerate(tiles):
        height, width = tile.pixels.shape[:2]
        left = centre_x if number % 2 else centre_x - width
        top = centre_y if number // 2 else centre_y - height
        _paste(canvas, tile.pixels, left, top)
        boxes.append(tile.boxes_xyxy + np.array([left, top, left, top]))
    return Sample(canvas, np.concatenate([t.classes for t in tiles]), np.concatenate(boxes))


def letterboxed(tile: Sample, imgsz: int) -> Sample:
    """Place an image, whose longer side is imgsz, in the middle of a grey square of imgsz."""
    canvas = _grey(imgsz)
    height, width = tile.pixels.shape[:2]
    left, top = (imgsz - width) // 2, (imgsz - height) // 2
    _paste(canvas, tile.pixels, left, top)
    return Sample(canvas, tile.classes, tile.boxes_xyxy + np.array([left, top, left, top]))


def transform(sample: Sample, imgsz: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Scale about the middle and shift, both at random, and crop to a square of imgsz. The rest is grey.

    Boxes are clipped to the visible part. Boxes that become too small or too long, or that lose too much of
    their area, are dropped. The part of a box outside the sample's pixels counts as lost.
    """
    scale = rng.uniform(1 - augmentation.scale, 1 + augmentation.scale)
    shift = rng.uniform(-augmentation.translate, augmentation.translate, 2) * imgsz
    size = np.array(sample.pixels.shape[1::-1], np.float64)
    offset = imgsz / 2 + shift - scale * size / 2
    whole = sample.boxes_xyxy * scale
    seen = (sample.boxes_xyxy.clip(0, np.tile(size, 2)) * scale + np.tile(offset, 2)).clip(0, imgsz)
    kept = _is_kept(seen, whole)
    return Sample(_warped(sample.pixels, imgsz, scale, offset), sample.classes[kept], seen[kept])


def shift_colours(pixels: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Multiply hue, saturation and value each by a random factor, the same for all pixels."""
    gains = np.array([augmentation.hue, augmentation.saturation, augmentation.value])
    factors = 1 + rng.uniform(-1, 1, 3) * gains
    if not gains.any():
        return pixels
    scaled = np.rint(np.arange(256)[:, None] * factors)
    scaled[:, 0] %= 180  # OpenCV stores the hue as degrees / 2, to fit a byte.
    table = scaled.clip(0, 255).astype(np.uint8)[None]
    hsv = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def flipped(sample: Sample) -> Sample:
    """Mirror the sample: swap left and right."""
    x1, y1, x2, y2 = sample.boxes_xyxy.T
    width = sample.pixels.shape[1]
    boxes = np.stack((width - x2, y1, width - x1, y2), 1)
    return replace(sample, pixels=np.ascontiguousarray(sample.pixels[:, ::-1]), boxes_xyxy=boxes)


def finish(sample: Sample, imgsz: int, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Apply what follows the mosaic or the letterbox: scale and shift to imgsz, colours, flip."""
    sample = transform(sample, imgsz, augmentation, rng)
    sample = replace(sample, pixels=shift_colours(sample.pixels, augmentation, rng))
    return flipped(sample) if rng.random() < augmentation.flip else sample


def _grey(side: int) -> np.ndarray:
    return np.full((side, side, 3), GREY, np.uint8)


def _paste(canvas: np.ndarray, pixels: np.ndarray, left: int, top: int) -> None:
    """Copy pixels onto the canvas. What lies outside the canvas is cut off."""
    (height, width), (below, right) = pixels.shape[:2], canvas.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, right), min(top + height, below)
    canvas[y1:y2, x1:x2] = pixels[y1 - top : y2 - top, x1 - left : x2 - left]


def _warped(pixels: np.ndarray, imgsz: int, scale: float, offset_xy: np.ndarray) -> np.ndarray:
    """Move the pixel at x to scale * x + offset, on a square of imgsz."""
    if scale == 1 and not offset_xy.any() and pixels.shape[:2] == (imgsz, imgsz):
        return pixels
    # OpenCV's origin is the centre of the first pixel; that of boxes is its corner.
    x, y = offset_xy + (scale - 1) / 2
    matrix = np.array([[scale, 0, x], [0, scale, y]])
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (GREY,) * 3}
    return cv2.warpAffine(pixels, matrix, (imgsz, imgsz), flags=cv2.INTER_LINEAR, **border)


def _is_kept(seen_xyxy: np.ndarray, whole_xyxy: np.ndarray) -> np.ndarray:
    """Return which boxes are kept: bool [n]. seen_xyxy: clipped, [n, 4]. whole_xyxy: unclipped, [n, 4]."""
    sides = seen_xyxy[:, 2:] - seen_xyxy[:, :2]
    area, whole = sides.prod(1), (whole_xyxy[:, 2:] - whole_xyxy[:, :2]).prod(1)
    shorter, longer = sides.min(1), sides.max(1)
    large = (shorter >= SMALLEST_SIDE) & (area >= SMALLEST_PART * whole)
    return large & (longer <= LARGEST_ASPECT * shorter)
