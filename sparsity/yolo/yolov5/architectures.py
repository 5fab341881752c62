"""The published YOLOv5 detectors (v6 and v7) as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsity.yolo.parts import concat, conv, conv2d, layer, numbered, rounded_to_eights, sppf, upsample
from sparsity.yolo.spec import Architecture, ModuleSpec, Value


@dataclass(frozen=True)
class Scale:
    """The factors that define a size: depth for the repeats, width for the channels."""

    depth: float
    width: float

    def channels(self, count: int) -> int:
        """Return the scaled channel count, rounded up to a multiple of 8."""
        return rounded_to_eights(count * self.width)

    def repeats(self, count: int) -> int:
        """Return the scaled number of repeats, at least 1."""
        return max(1, round(count * self.depth))


SCALES: Mapping[str, Scale] = {
    "yolov5n": Scale(0.33, 0.25),
    "yolov5s": Scale(0.33, 0.50),
    "yolov5m": Scale(0.67, 0.75),
    "yolov5l": Scale(1.0, 1.0),
    "yolov5x": Scale(1.33, 1.25),
}
STRIDES = (8, 16, 32)
ANCHORS_PER_CELL = 3
ANCHORS = (
    *((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    *((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    *((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
"""Width and height of the published networks' anchors in pixels: three for each raw map, the finest first."""


def yolov5(name: str, nc: int = 80) -> Architecture:
    """Return the architecture of yolov5n, s, m, l or x for nc classes.

    Anchors are weights (model.24.anchors), not part of the architecture. Raises KeyError for another name.
    """
    scale = SCALES[name]
    c64, c128, c256, c512, c1024 = (scale.channels(c) for c in (64, 128, 256, 512, 1024))
    n3, n6, n9 = (scale.repeats(n) for n in (3, 6, 9))
    return (
        layer(conv(3, c64, 6, 2, 2)),
        layer(conv(c64, c128, 3, 2)),
        layer(c3(c128, c128, n3)),
        layer(conv(c128, c256, 3, 2)),
        layer(c3(c256, c256, n6)),
        layer(conv(c256, c512, 3, 2)),
        layer(c3(c512, c512, n9)),
        layer(conv(c512, c1024, 3, 2)),
        layer(c3(c1024, c1024, n3)),
        layer(sppf(c1024, c1024, 5)),
        layer(conv(c1024, c512)),
        layer(upsample()),
        layer(concat(), -1, 6),
        layer(c3(2 * c512, c512, n3, shortcut=False)),
        layer(conv(c512, c256)),
        layer(upsample()),
        layer(concat(), -1, 4),
        layer(c3(2 * c256, c256, n3, shortcut=False)),
        layer(conv(c256, c256, 3, 2)),
        layer(concat(), -1, 14),
        layer(c3(2 * c256, c512, n3, shortcut=False)),
        layer(conv(c512, c512, 3, 2)),
        layer(concat(), -1, 10),
        layer(c3(2 * c512, c1024, n3, shortcut=False)),
        layer(_detect((c256, c512, c1024), nc), 17, 20, 23),
    )


def c3(c1: int, c2: int, n: int, shortcut: bool = True) -> ModuleSpec:
    """Return a C3 from c1 to c2 channels with n bottlenecks."""
    hidden = c2 // 2
    bottleneck = ModuleSpec(
        "Bottleneck",
        {"add": shortcut},
        {"cv1": conv(hidden, hidden), "cv2": conv(hidden, hidden, 3)},
    )
    children = {"cv1": conv(c1, hidden), "cv2": conv(c1, hidden), "cv3": conv(2 * hidden, c2)}
    return ModuleSpec("C3", children=children | {"m": numbered("Sequential", [bottleneck] * n)})


def _detect(channels: tuple[int, ...], nc: int) -> ModuleSpec:
    outputs = ANCHORS_PER_CELL * (5 + nc)
    maps = [conv2d(c, outputs, 1, 1, 0, bias=True) for c in channels]
    attributes: dict[str, Value] = {"nc": nc, "na": ANCHORS_PER_CELL, "strides": STRIDES}
    return ModuleSpec("Detect", attributes, {"m": numbered("ModuleList", maps)})
