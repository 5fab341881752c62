"""Scenes of simple shapes on a cluttered background. A small detector can learn to find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

SIZE = 320
"""The default side of a scene, in pixels."""
SMALLEST, LARGEST = 14, 170
"""The range of a shape's longer side, in pixels, in a scene of SIZE. In other scenes it is in proportion."""
MOST = 9
"""The largest number of shapes in a scene."""
_SHIFT = 4
"""OpenCV draws at positions in 1/2**_SHIFT of a pixel."""
_DRAWN = 128
"""A pixel belongs to the shape if the shape covers at least this much of it, out of 255."""
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
"""Quantiles of the normal distribution. To draw from them is ten times as fast as to draw a normal number."""
_STYLES = {"filled": 0.55, "outlined": 0.25, "bordered": 0.2}
"""How a shape is drawn -> its probability."""


@dataclass(frozen=True)
class Scene:
    """A picture and the shapes in it.

    pixels: uint8 [size, size, 3], RGB. classes: int64 [n], indices into CLASSES.
    boxes_xyxy: float32 [n, 4], in pixels, clipped to the picture. A box is around the whole shape, including
    the parts that other shapes hide.
    """

    pixels: np.ndarray
    classes: np.ndarray
    boxes_xyxy: np.ndarray


@dataclass(frozen=True)
class Shape:
    """A shape on its tile. The tile's corner is at (left, top) of the picture, and can be outside it.

    mask: how much of each pixel the shape covers, uint8 [height, width]. edge: the same for its border, or
    None.
    """

    label: int
    left: int
    top: int
    mask: np.ndarray
    edge: np.ndarray | None = None

    def overlap(self, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the part inside a picture of size x size: (rows, columns) of the picture and of the tile."""
        height, width = self.mask.shape
        top, bottom = max(self.top, 0), min(self.top + height, size)
        left, right = max(self.left, 0), min(self.left + width, size)
        tile = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), tile


def draw_scene(seed: int, size: int = SIZE) -> Scene:
    """Draw a scene of 1 to MOST shapes. The same seed and size give the same scene.

    A shape is not labelled if less than half of it is visible. Other shapes can hide parts of it, and parts
    can be outside the picture.
    """
    rng = np.random.default_rng(seed)
    pixels = _draw_ground(rng, size)
    taken = np.zeros((size, size), np.uint8)
    shapes: list[Shape] = []
    for number in range(1, int(rng.integers(1, MOST + 1)) + 1):
        shape = _random_shape(rng, taken)
        _paint(rng, pixels, shape)
        place, tile = shape.overlap(size)
        taken[place][shape.mask[tile] >= _DRAWN] = number
        shapes.append(shape)
    classes, boxes_xyxy = label(shapes, taken)
    return Scene(_photograph(rng, pixels), classes, boxes_xyxy)


def label(shapes: list[Shape], taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the shapes that are at least half visible.

    They are classes int64 [n] and boxes_xyxy float32 [n, 4], in pixels.
    taken: [size, size], the number (from 1) of the shape that is visible at each pixel, 0 for none.
    """
    seen = np.bincount(taken.ravel(), minlength=len(shapes) + 1)[1:]
    classes, boxes_xyxy = [], []
    for shape, pixels in zip(shapes, seen, strict=True):
        drawn = (shape.mask >= _DRAWN).astype(np.uint8)
        if pixels and 2 * pixels >= np.count_nonzero(drawn):
            (rows, columns), tile = shape.overlap(len(taken))
            x, y, width, height = cv2.boundingRect(drawn[tile])
            x, y = x + columns.start, y + rows.start
            classes.append(shape.label)
            boxes_xyxy.append((x, y, x + width, y + height))
    return np.array(classes, np.int64), np.array(boxes_xyxy, np.float32).reshape(-1, 4)


def _random_shape(rng: np.random.Generator, taken: np.ndarray) -> Shape:
    """Return a shape of random class, size, rotation and style, at the least crowded of three places."""
    chosen = int(rng.integers(len(CLASSES)))
    side = _log_uniform(rng, SMALLEST, LARGEST) * len(taken) / SIZE
    contours, extent = _turn(rng, _CONTOURS[CLASSES[chosen]](rng), side)
    places = rng.uniform(0.3 * extent, len(taken) - 0.3 * extent, (3, 2))
    centre = min(places, key=lambda place: _crowding(taken, place, extent))
    style = rng.choice(list(_STYLES), p=list(_STYLES.values()))
    if CLASSES[chosen] in ("disc", "ring"):  # The outline of a disc would be a ring.
        style = "filled"
    width = max(2, round(side * rng.uniform(0.06, 0.12)))
    corner = np.floor(centre - extent / 2 - width - 2).astype(int)
    fill = np.zeros(np.ceil(extent + 2 * width + 5).astype(int)[::-1], np.uint8)
    edge = None
    points = [np.round((c + centre - corner) * 2**_SHIFT).astype(np.int32) for c in contours]
    if style != "filled":
        edge = cv2.polylines(fill.copy(), points, True, 255, width, cv2.LINE_AA, _SHIFT)
    if style != "outlined":
        cv2.fillPoly(fill, points, 255, cv2.LINE_AA, _SHIFT)
    mask = fill if edge is None else cv2.max(fill, edge)
    return Shape(chosen, int(corner[0]), int(corner[1]), mask, edge if style == "bordered" else None)


def _turn(
    rng: np.random.Generator, contours: list[np.ndarray], side: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Stretch the contours a little, rotate them, scale them and centre them at (0, 0).

    side: the longer side of their extent afterwards. Return the contours and their extent.
    """
    turn, stretch = _random_turn(rng), rng.uniform(0.8, 1, 2)
    turned = [contour * stretch @ turn for contour in contours]
    low, high = turned[0].min(0), turned[0].max(0)
    scale = side / (high - low).max()
    return [(contour - (low + high) / 2) * scale for contour in turned], (high - low) * scale


def _random_turn(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _crowding(taken: np.ndarray, centre: np.ndarray, extent: np.ndarray) -> float:
    """Return the fraction of a box that shapes cover."""
    (left, top), (right, bottom) = np.maximum(centre - extent / 2, 0), centre + extent / 2
    box = taken[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
    return np.count_nonzero(box) / box.size


def _paint(rng: np.random.Generator, pixels: np.ndarray, shape: Shape) -> None:
    """Paint a shape. The difference between its colour and the pixels below is random."""
    place, tile = shape.overlap(len(pixels))
    below = pixels[place]
    colour = _colour_unlike(rng, np.array(cv2.mean(below)[:3], np.float32))
    shades = np.linspace(1, rng.uniform(0.75, 1.2), len(below), dtype=np.float32)
    paint = np.minimum(colour * shades[:, None, None], 255)
    mixed = _mix(below, paint, shape.mask[tile])
    if shape.edge is not None:
        mixed = _mix(mixed, _colour_unlike(rng, colour), shape.edge[tile])
    pixels[place] = mixed


def _mix(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return below + (above - below) * (mask[..., None] * np.float32(1 / 255))


def _colour_unlike(rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """Return a colour, float32 [3]. In most cases, it has at least a random distance from the other."""
    colours = rng.uniform(0, 255, (8, 3)).astype(np.float32)
    distances = np.linalg.norm(colours - other, axis=1)
    return colours[np.argmax(np.minimum(distances, rng.uniform(45, 140)))]


def _draw_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw soft colours, a coarse grain, and clutter that belongs to no class: uint8 [size, size, 3]."""
    colours = rng.uniform(0, 255, (*rng.integers(2, 5, 2), 3)).astype(np.float32)
    grain = rng.normal(0, rng.uniform(0, 25), (*rng.integers(10, 80, 2), 1)).astype(np.float32)
    ground = cv2.resize(colours * rng.uniform(0.4, 1) + rng.uniform(0, 60), (size, size))
    grain = cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC)
    pixels = cv2.add(ground, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    for _ in range(int(rng.integers(4, 24))):
        side = _log_uniform(rng, 8, 200) * size / SIZE
        colour = rng.uniform(0, 255, 3)
        _CLUTTER[rng.integers(len(_CLUTTER))](rng, pixels, rng.uniform(0, size, 2), side, colour)
    return pixels


def _draw_blob(
    rng: np.random.Generator, pixels: np.ndarray, centre: np.ndarray, side: float, colour: np.ndarray
) -> None:
    corners = int(rng.integers(7, 12))
    contour = _circle(corners, rng.uniform(0.6, 1, corners)) * (1, rng.uniform(0.45, 0.7))
    points = centre + contour @ _random_turn(rng) * (side / 2)
    cv2.fillPoly(pixels, [np.round(points).astype(np.int32)], colour.tolist(), cv2.LINE_AA)


def _draw_oval(
    rng: np.random.Generator, pixels: np.ndarray, centre: np.ndarray, side: float, colour: np.ndarray
) -> None:
    box = centre.tolist(), (side, side / rng.uniform(1.8, 3.5)), rng.uniform(0, 180)
    cv2.ellipse(pixels, box, colour.tolist(), -1, cv2.LINE_AA)


def _draw_bar(
    rng: np.random.Generator, pixels: np.ndarray, centre: np.ndarray, side: float, colour: np.ndarray
) -> None:
    corners = cv2.boxPoints((centre.tolist(), (side, side / rng.uniform(3, 10)), rng.uniform(0, 180)))
    cv2.fillPoly(pixels, [np.round(corners).astype(np.int32)], colour.tolist(), cv2.LINE_AA)


def _draw_arc(
    rng: np.random.Generator, pixels: np.ndarray, centre: np.ndarray, side: float, colour: np.ndarray
) -> None:
    axes = np.round(side * rng.uniform(0.3, 0.6, 2)).astype(int).tolist()
    start, width = rng.uniform(0, 360), int(rng.integers(1, 2 + side // 16))
    end = start + rng.uniform(60, 180)
    middle = np.round(centre).astype(int).tolist()
    cv2.ellipse(pixels, middle, axes, 0, start, end, colour.tolist(), width, cv2.LINE_AA)


def _draw_line(
    rng: np.random.Generator, pixels: np.ndarray, centre: np.ndarray, side: float, colour: np.ndarray
) -> None:
    points = [np.round(centre + rng.normal(0, side, (int(rng.integers(2, 4)), 2))).astype(np.int32)]
    cv2.polylines(pixels, points, False, colour.tolist(), int(rng.integers(1, 5)), cv2.LINE_AA)


_CLUTTER = (_draw_blob, _draw_oval, _draw_bar, _draw_arc, _draw_line)


def _photograph(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Return the picture as a camera would take it: slightly blurred, brighter or darker, with noise."""
    blurred = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
    noise = cv2.LUT(rng.integers(0, 256, pixels.shape, np.uint8), _NORMAL * np.float32(rng.uniform(1, 9)))
    gain, offset = rng.uniform(0.65, 1.15), rng.uniform(-15, 25)
    return cv2.addWeighted(blurred, gain, noise, 1, offset, dtype=cv2.CV_8U)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _circle(corners: int, radii: Sequence[float] | np.ndarray = (1,)) -> np.ndarray:
    """Return points [corners, 2] around (0, 0). The radii are used in turn."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    return np.stack((np.cos(angles), np.sin(angles)), 1) * np.resize(radii, corners)[:, None]


def _disc(rng: np.random.Generator) -> list[np.ndarray]:
    return [_circle(60)]


def _ring(rng: np.random.Generator) -> list[np.ndarray]:
    return [_circle(60), _circle(60, (rng.uniform(0.4, 0.75),))]


def _triangle(rng: np.random.Generator) -> list[np.ndarray]:
    return [_circle(3)]


def _square(rng: np.random.Generator) -> list[np.ndarray]:
    return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])]


def _star(rng: np.random.Generator) -> list[np.ndarray]:
    return [_circle(10, (1, rng.uniform(0.38, 0.5)))]


def _cross(rng: np.random.Generator) -> list[np.ndarray]:
    a = rng.uniform(0.2, 0.33)
    arm = np.array([(1, -a), (1, a), (a, a)])
    turns = [np.array([(c, s), (-s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return [np.concatenate([arm @ turn for turn in turns])]


def _arrow(rng: np.random.Generator) -> list[np.ndarray]:
    neck, shaft, head = rng.uniform(0, 0.3), rng.uniform(0.14, 0.25), rng.uniform(0.5, 0.75)
    half = [(1, 0), (neck, head), (neck, shaft), (-1, shaft)]
    return [np.array(half + [(x, -y) for x, y in half[:0:-1]])]


def _crescent(rng: np.random.Generator) -> list[np.ndarray]:
    tip, depth = rng.uniform(0.5, 0.9), rng.uniform(1.0, 1.3)
    outer = np.linspace(tip, 2 * np.pi - tip, 40)
    inner = np.linspace(-np.pi / 2, np.pi / 2, 30)[1:-1]
    x = np.concatenate((np.cos(outer), np.cos(tip) - depth * np.cos(inner)))
    y = np.concatenate((np.sin(outer), np.sin(tip) * np.sin(inner)))
    return [np.stack((x, y), 1)]


_CONTOURS: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "arrow": _arrow,
    "crescent": _crescent,
}
"""The outline of each class, and its hole if it has one: points [n, 2], at any scale."""
CLASSES: tuple[str, ...] = tuple(_CONTOURS)
"""The names of the classes, in order."""
