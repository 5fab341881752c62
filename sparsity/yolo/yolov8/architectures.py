"""The published YOLOv8 detectors as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sparsity.yolo.parts import concat, conv, conv2d, layer, numbered, rounded_to_eights, sppf, upsample
from sparsity.yolo.spec import Architecture, ModuleSpec, Value


@dataclass(frozen=True)
class Scale:
    """The factors that define a size: depth for the repeats, width for the channels.

    most: the upper limit of the channels, applied before the factor.
    """

    depth: float
    width: float
    most: int

    def channels(self, count: int) -> int:
        """Return the scaled channel count, rounded up to a multiple of 8."""
        return rounded_to_eights(min(count, self.most) * self.width)

    def repeats(self, count: int) -> int:
        """Return the scaled number of repeats, at least 1."""
        return max(1, round(count * self.depth))


SCALES: Mapping[str, Scale] = {
    "yolov8n": Scale(0.33, 0.25, 1024),
    "yolov8s": Scale(0.33, 0.50, 1024),
    "yolov8m": Scale(0.67, 0.75, 768),
    "yolov8l": Scale(1.0, 1.0, 512),
    "yolov8x": Scale(1.0, 1.25, 512),
}
STRIDES = (8, 16, 32)
REG_MAX = 16
"""Bins in the distribution of a box side."""
Branch: TypeAlias = "Callable[[int, int, int], ModuleSpec]"
"""Channels of a map, those between the layers, and those at the end -> the layers of one map."""


def yolov8(name: str, nc: int = 80) -> Architecture:
    """Return the architecture of yolov8n, s, m, l or x for nc classes. Raises KeyError for another name."""
    scale = SCALES[name]
    c64, c128, c256, c512, c1024 = (scale.channels(c) for c in (64, 128, 256, 512, 1024))
    n3, n6 = (scale.repeats(n) for n in (3, 6))
    return (
        layer(conv(3, c64, 3, 2)),
        layer(conv(c64, c128, 3, 2)),
        layer(c2f(c128, c128, n3)),
        layer(conv(c128, c256, 3, 2)),
        layer(c2f(c256, c256, n6)),
        layer(conv(c256, c512, 3, 2)),
        layer(c2f(c512, c512, n6)),
        layer(conv(c512, c1024, 3, 2)),
        layer(c2f(c1024, c1024, n3)),
        layer(sppf(c1024, c1024, 5)),
        layer(upsample()),
        layer(concat(), -1, 6),
        layer(c2f(c1024 + c512, c512, n3, shortcut=False)),
        layer(upsample()),
        layer(concat(), -1, 4),
        layer(c2f(c512 + c256, c256, n3, shortcut=False)),
        layer(conv(c256, c256, 3, 2)),
        layer(concat(), -1, 12),
        layer(c2f(c256 + c512, c512, n3, shortcut=False)),
        layer(conv(c512, c512, 3, 2)),
        layer(concat(), -1, 9),
        layer(c2f(c512 + c1024, c1024, n3, shortcut=False)),
        layer(detect((c256, c512, c1024), nc), 15, 18, 21),
    )


def c2f(c1: int, c2: int, n: int, shortcut: bool = True) -> ModuleSpec:
    """Return a C2f from c1 to c2 channels with n bottlenecks."""
    hidden = c2 // 2
    bottleneck = ModuleSpec(
        "Bottleneck",
        {"add": shortcut},
        {"cv1": conv(hidden, hidden, 3), "cv2": conv(hidden, hidden, 3)},
    )
    children = {"cv1": conv(c1, 2 * hidden), "cv2": conv((2 + n) * hidden, c2)}
    return ModuleSpec("C2f", children=children | {"m": numbered("ModuleList", [bottleneck] * n)})


def detect(channels: tuple[int, ...], nc: int, strides: tuple[int, ...] = STRIDES) -> ModuleSpec:
    """Return a head over feature maps with these channel counts."""
    return detect_of(channels, nc, strides, box_branch)


def detect_of(
    channels: tuple[int, ...], nc: int, strides: tuple[int, ...], class_branch: Branch
) -> ModuleSpec:
    """Return a head over feature maps with these channel counts, with these branches for the classes."""
    box, classes = max(16, channels[0] // 4, 4 * REG_MAX), max(channels[0], min(nc, 100))
    attributes: dict[str, Value] = {"nc": nc, "reg_max": REG_MAX, "strides": strides}
    children = {
        "cv2": branches(channels, box, 4 * REG_MAX, box_branch),
        "cv3": branches(channels, classes, nc, class_branch),
        "dfl": ModuleSpec("DFL", {"c1": REG_MAX}),
    }
    return ModuleSpec("AnchorFreeDetect", attributes, children)


def branches(channels: tuple[int, ...], hidden: int, c2: int, branch: Branch) -> ModuleSpec:
    """Return a branch for each map of a head: hidden channels between its layers, and c2 at its end."""
    return numbered("ModuleList", [branch(c, hidden, c2) for c in channels])


def box_branch(c1: int, hidden: int, c2: int) -> ModuleSpec:
    """Return two 3x3 convolutions and a 1x1 convolution for one map."""
    last = conv2d(hidden, c2, 1, 1, 0, bias=True)
    return numbered("Sequential", [conv(c1, hidden, 3), conv(hidden, hidden, 3), last])
