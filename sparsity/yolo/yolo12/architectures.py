"""The published YOLO12 detectors as data."""

from __future__ import annotations

from collections.abc import Mapping

from sparsity.yolo.parts import concat, conv, depthwise, layer, numbered, upsample
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolo11 import architectures as yolo11
from sparsity.yolo.yolo11.architectures import c3k2, light_detect, stem, three_convolutions, two_convolutions
from sparsity.yolo.yolov8.architectures import Scale

SCALES: Mapping[str, Scale] = {
    name.replace("yolo11", "yolo12"): scale for name, scale in yolo11.SCALES.items()
}
CHANNELS_PER_HEAD = 32
AREA = 4
"""Into how many areas a map of stride 16 is cut."""
DEEP_MLP_RATIO, MLP_RATIO = 1.2, 2.0
"""Hidden channels of an ABlock, divided by its channels: of sizes l and x, and of the others."""


def yolo12(name: str, nc: int = 80) -> Architecture:
    """Return the architecture of yolo12n, s, m, l or x for nc classes. Raises KeyError for another name."""
    scale = SCALES[name]
    c256, c512, c1024 = (scale.channels(c) for c in (256, 512, 1024))
    n2, n4, large = scale.repeats(2), scale.repeats(4), scale.depth >= 1
    return (
        *stem(scale),
        layer(conv(c512, c512, 3, 2)),
        layer(attending(c512, n4, AREA, large)),
        layer(conv(c512, c1024, 3, 2)),
        layer(attending(c1024, n4, 1, large)),
        layer(upsample()),
        layer(concat(), -1, 6),
        layer(aggregating(c1024 + c512, c512, n2)),
        layer(upsample()),
        layer(concat(), -1, 4),
        layer(aggregating(c512 + c512, c256, n2)),
        layer(conv(c256, c256, 3, 2)),
        layer(concat(), -1, 11),
        layer(aggregating(c256 + c512, c512, n2)),
        layer(conv(c512, c512, 3, 2)),
        layer(concat(), -1, 8),
        layer(c3k2(c512 + c1024, c1024, n2, c3k=True)),
        layer(light_detect((c256, c512, c1024), nc), 14, 17, 20),
    )


def attending(channels: int, n: int, area: int, large: bool) -> ModuleSpec:
    """Return an A2C2f of n pairs of attention blocks. large: of sizes l and x, with a residual."""
    hidden = channels // 2
    block = _attention_block(hidden, area, DEEP_MLP_RATIO if large else MLP_RATIO)
    return _a2c2f(channels, channels, [numbered("Sequential", [block] * 2)] * n, residual=large)


def aggregating(c1: int, c2: int, n: int) -> ModuleSpec:
    """Return an A2C2f from c1 to c2 channels with n blocks without attention."""
    return _a2c2f(c1, c2, [three_convolutions(c2 // 2)] * n, residual=False)


def _a2c2f(c1: int, c2: int, blocks: list[ModuleSpec], *, residual: bool) -> ModuleSpec:
    hidden = c2 // 2
    children = {"cv1": conv(c1, hidden), "cv2": conv((1 + len(blocks)) * hidden, c2)}
    children["m"] = numbered("ModuleList", blocks)
    return ModuleSpec("A2C2f", {"residual": residual}, children)


def _attention_block(channels: int, area: int, ratio: float) -> ModuleSpec:
    attention = ModuleSpec(
        "AAttn",
        {"area": area, "num_heads": channels // CHANNELS_PER_HEAD, "head_dim": CHANNELS_PER_HEAD},
        {
            "qkv": conv(channels, 3 * channels, act="Identity"),
            "proj": conv(channels, channels, act="Identity"),
            "pe": depthwise(channels, 7, act="Identity"),
        },
    )
    return ModuleSpec("ABlock", children={"attn": attention, "mlp": two_convolutions(channels, ratio)})
