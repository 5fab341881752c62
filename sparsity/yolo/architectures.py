"""The published YOLOv5 detectors (v6 and v7) as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value


@dataclass(frozen=True)
class Scale:
    """What tells one size from another: factors on the repeats and on the channels."""

    depth: float
    width: float

    def channels(self, count: int) -> int:
        """The scaled channel count, rounded up to a multiple of 8."""
        return -int(-count * self.width // 8) * 8

    def repeats(self, count: int) -> int:
        """The scaled number of repeats, at least 1."""
        return max(1, round(count * self.depth))


SCALES: Mapping[str, Scale] = {
    "yolov5n": Scale(0.33, 0.25),
    "yolov5s": Scale(0.33, 0.50),
    "yolov5m": Scale(0.67, 0.75),
    "yolov5l": Scale(1.0, 1.0),
    "yolov5x": Scale(1.33, 1.25),
}
STRIDES = (8, 16, 32)
ANCHORS_PER_LEVEL = 3
ANCHORS = (
    *((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    *((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    *((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
"""Width and height in pixels, three to a level, of the published networks."""


def yolov5(name: str, nc: int = 80) -> Architecture:
    """The architecture of yolov5n, s, m, l or x for nc classes.

    Anchors are weights (model.24.anchors), not part of it. Raises KeyError for another name.
    """
    scale = SCALES[name]
    c64, c128, c256, c512, c1024 = (scale.channels(c) for c in (64, 128, 256, 512, 1024))
    n3, n6, n9 = (scale.repeats(n) for n in (3, 6, 9))
    return (
        _layer(conv(3, c64, 6, 2, 2)),
        _layer(conv(c64, c128, 3, 2)),
        _layer(c3(c128, c128, n3)),
        _layer(conv(c128, c256, 3, 2)),
        _layer(c3(c256, c256, n6)),
        _layer(conv(c256, c512, 3, 2)),
        _layer(c3(c512, c512, n9)),
        _layer(conv(c512, c1024, 3, 2)),
        _layer(c3(c1024, c1024, n3)),
        _layer(sppf(c1024, c1024, 5)),
        _layer(conv(c1024, c512)),
        _layer(upsample()),
        _layer(concat(), -1, 6),
        _layer(c3(2 * c512, c512, n3, shortcut=False)),
        _layer(conv(c512, c256)),
        _layer(upsample()),
        _layer(concat(), -1, 4),
        _layer(c3(2 * c256, c256, n3, shortcut=False)),
        _layer(conv(c256, c256, 3, 2)),
        _layer(concat(), -1, 14),
        _layer(c3(2 * c256, c512, n3, shortcut=False)),
        _layer(conv(c512, c512, 3, 2)),
        _layer(concat(), -1, 10),
        _layer(c3(2 * c512, c1024, n3, shortcut=False)),
        _layer(_detect((c256, c512, c1024), nc), 17, 20, 23),
    )


def _layer(module: ModuleSpec, *sources: int) -> Layer:
    return Layer(module, sources or (-1,))


def _conv2d(c1: int, c2: int, k: int, s: int, p: int, bias: bool) -> ModuleSpec:
    attributes: dict[str, Value] = {"in_channels": c1, "out_channels": c2, "kernel_size": (k, k)}
    attributes |= {"stride": (s, s), "padding": (p, p), "dilation": (1, 1), "groups": 1}
    return ModuleSpec("Conv2d", attributes | {"bias": bias})


def conv(c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None) -> ModuleSpec:
    """A Conv from c1 to c2 channels: kernel size k, stride s, padding p (k // 2 where None)."""
    norm = ModuleSpec("BatchNorm2d", {"num_features": c2, "eps": 1e-3, "momentum": 0.03})
    inner = _conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
    return ModuleSpec("Conv", children={"conv": inner, "bn": norm, "act": ModuleSpec("SiLU")})


def _numbered(kind: str, modules: list[ModuleSpec]) -> ModuleSpec:
    return ModuleSpec(kind, children={str(i): module for i, module in enumerate(modules)})


def c3(c1: int, c2: int, n: int, shortcut: bool = True) -> ModuleSpec:
    """A C3 from c1 to c2 channels with n bottlenecks."""
    hidden = c2 // 2
    bottleneck = ModuleSpec(
        "Bottleneck",
        {"add": shortcut},
        {"cv1": conv(hidden, hidden), "cv2": conv(hidden, hidden, 3)},
    )
    children = {"cv1": conv(c1, hidden), "cv2": conv(c1, hidden), "cv3": conv(2 * hidden, c2)}
    return ModuleSpec("C3", children=children | {"m": _numbered("Sequential", [bottleneck] * n)})


def sppf(c1: int, c2: int, k: int) -> ModuleSpec:
    """An SPPF from c1 to c2 channels with a max pool of size k."""
    pool = ModuleSpec("MaxPool2d", {"kernel_size": k, "stride": 1, "padding": k // 2})
    hidden = c1 // 2
    children = {"cv1": conv(c1, hidden), "cv2": conv(4 * hidden, c2), "m": pool}
    return ModuleSpec("SPPF", children=children)


def upsample() -> ModuleSpec:
    """Twice the height and width, each cell repeated."""
    return ModuleSpec("Upsample", {"size": None, "scale_factor": 2.0, "mode": "nearest"})


def concat() -> ModuleSpec:
    """A Concat of channels."""
    return ModuleSpec("Concat", {"d": 1})


def _detect(channels: tuple[int, ...], nc: int) -> ModuleSpec:
    outputs = ANCHORS_PER_LEVEL * (5 + nc)
    maps = [_conv2d(c, outputs, 1, 1, 0, bias=True) for c in channels]
    attributes: dict[str, Value] = {"nc": nc, "na": ANCHORS_PER_LEVEL, "strides": STRIDES}
    return ModuleSpec("Detect", attributes, {"m": _numbered("ModuleList", maps)})
