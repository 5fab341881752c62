"""The published YOLO11 detectors as data, and the parts that YOLO12 and YOLO26 share with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparsity.yolo.parts import concat, conv, conv2d, depthwise, layer, numbered, sppf, upsample
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolov8.architectures import STRIDES, Scale, detect_of

SCALES: Mapping[str, Scale] = {
    "yolo11n": Scale(0.50, 0.25, 1024),
    "yolo11s": Scale(0.50, 0.50, 1024),
    "yolo11m": Scale(0.50, 1.00, 512),
    "yolo11l": Scale(1.00, 1.00, 512),
    "yolo11x": Scale(1.00, 1.50, 512),
}
CHANNELS_PER_HEAD = 64
"""Channels of an attention head. Queries and keys have half as many."""


def yolo11(name: str, nc: int = 80) -> Architecture:
    """Return the architecture of yolo11n, s, m, l or x for nc classes. Raises KeyError for another name."""
    scale = SCALES[name]
    c256, c512, c1024 = (scale.channels(c) for c in (256, 512, 1024))
    n, deep = scale.repeats(2), is_deep(scale)
    return (
        *stem(scale),
        layer(conv(c512, c512, 3, 2)),
        layer(c3k2(c512, c512, n, c3k=True)),
        layer(conv(c512, c1024, 3, 2)),
        layer(c3k2(c1024, c1024, n, c3k=True)),
        layer(sppf(c1024, c1024, 5)),
        layer(c2psa(c1024, n)),
        *neck(scale, deep, c3k2(c512 + c1024, c1024, n, c3k=True)),
        layer(light_detect((c256, c512, c1024), nc), 16, 19, 22),
    )


def is_deep(scale: Scale) -> bool:
    """Whether all blocks of a size are C3k: so it is from m on."""
    return scale.width >= 1


def stem(scale: Scale) -> Architecture:
    """Return the first five layers of YOLO11, YOLO12 and YOLO26."""
    c64, c128, c256, c512 = (scale.channels(c) for c in (64, 128, 256, 512))
    n, deep = scale.repeats(2), is_deep(scale)
    return (
        layer(conv(3, c64, 3, 2)),
        layer(conv(c64, c128, 3, 2)),
        layer(c3k2(c128, c256, n, e=0.25, c3k=deep)),
        layer(conv(c256, c256, 3, 2)),
        layer(c3k2(c256, c512, n, e=0.25, c3k=deep)),
    )


def neck(scale: Scale, c3k: bool, last: ModuleSpec) -> Architecture:
    """Return the layers 11 to 22 of YOLO11 and YOLO26. c3k: of all blocks but the last."""
    c256, c512, c1024 = (scale.channels(c) for c in (256, 512, 1024))
    n = scale.repeats(2)
    return (
        layer(upsample()),
        layer(concat(), -1, 6),
        layer(c3k2(c1024 + c512, c512, n, c3k=c3k)),
        layer(upsample()),
        layer(concat(), -1, 4),
        layer(c3k2(c512 + c512, c256, n, c3k=c3k)),
        layer(conv(c256, c256, 3, 2)),
        layer(concat(), -1, 13),
        layer(c3k2(c256 + c512, c512, n, c3k=c3k)),
        layer(conv(c512, c512, 3, 2)),
        layer(concat(), -1, 10),
        layer(last),
    )


def c3k2(c1: int, c2: int, n: int, *, e: float = 0.5, c3k: bool = False) -> ModuleSpec:
    """Return a C3k2 from c1 to c2 channels with n blocks of c2 x e channels: C3k or bottlenecks."""
    hidden = int(c2 * e)
    block = three_convolutions(hidden) if c3k else bottleneck(hidden, hidden // 2)
    return c3k2_of(c1, c2, hidden, [block] * n)


def c3k2_of(c1: int, c2: int, hidden: int, blocks: Sequence[ModuleSpec]) -> ModuleSpec:
    """Return a C3k2 from c1 to c2 channels with these blocks, which have hidden channels."""
    children = {"cv1": conv(c1, 2 * hidden), "cv2": conv((2 + len(blocks)) * hidden, c2)}
    return ModuleSpec("C3k2", children=children | {"m": numbered("ModuleList", blocks)})


def bottleneck(channels: int, hidden: int) -> ModuleSpec:
    """Return a Bottleneck of two 3x3 convolutions, with addition."""
    children = {"cv1": conv(channels, hidden, 3), "cv2": conv(hidden, channels, 3)}
    return ModuleSpec("Bottleneck", {"add": True}, children)


def three_convolutions(channels: int) -> ModuleSpec:
    """Return a C3k with two bottlenecks."""
    hidden = channels // 2
    children = {
        "cv1": conv(channels, hidden),
        "cv2": conv(channels, hidden),
        "cv3": conv(2 * hidden, channels),
        "m": numbered("Sequential", [bottleneck(hidden, hidden)] * 2),
    }
    return ModuleSpec("C3k", children=children)


def c2psa(channels: int, n: int) -> ModuleSpec:
    """Return a C2PSA with n blocks of attention."""
    hidden = channels // 2
    children = {"cv1": conv(channels, 2 * hidden), "cv2": conv(2 * hidden, channels)}
    return ModuleSpec("C2PSA", children=children | {"m": numbered("Sequential", [psa_block(hidden)] * n)})


def psa_block(channels: int) -> ModuleSpec:
    """Return a PSABlock, with additions."""
    heads = max(channels // CHANNELS_PER_HEAD, 1)
    of_head = channels // heads
    keys = of_head // 2
    attention = ModuleSpec(
        "Attention",
        {"num_heads": heads, "head_dim": of_head, "key_dim": keys, "scale": keys**-0.5},
        {
            "qkv": conv(channels, channels + 2 * heads * keys, act="Identity"),
            "proj": conv(channels, channels, act="Identity"),
            "pe": depthwise(channels, 3, act="Identity"),
        },
    )
    return ModuleSpec("PSABlock", {"add": True}, {"attn": attention, "ffn": two_convolutions(channels, 2)})


def two_convolutions(channels: int, factor: float) -> ModuleSpec:
    """Return two 1x1 convolutions with channels x factor channels between them."""
    hidden = int(channels * factor)
    return numbered("Sequential", [conv(channels, hidden), conv(hidden, channels, act="Identity")])


def light_detect(channels: tuple[int, ...], nc: int, strides: tuple[int, ...] = STRIDES) -> ModuleSpec:
    """Return YOLOv8's head with class branches of depthwise and 1x1 convolutions."""
    return detect_of(channels, nc, strides, class_branch)


def class_branch(c1: int, hidden: int, nc: int) -> ModuleSpec:
    """Return the layers that give the classes of one map."""
    steps = [numbered("Sequential", [depthwise(c, 3), conv(c, hidden)]) for c in (c1, hidden)]
    return numbered("Sequential", [*steps, conv2d(hidden, nc, 1, 1, 0, bias=True)])
