"""The published YOLO26 detectors as data."""

from __future__ import annotations

from collections.abc import Mapping

from sparsity.yolo.parts import conv, layer, numbered, sppf
from sparsity.yolo.spec import Architecture, ModuleSpec, Value
from sparsity.yolo.yolo11 import architectures as yolo11
from sparsity.yolo.yolo11.architectures import (
    bottleneck,
    c2psa,
    c3k2,
    c3k2_of,
    class_branch,
    neck,
    psa_block,
    stem,
)
from sparsity.yolo.yolo26.branches import BRANCHES, KIND_OF, ONE2MANY
from sparsity.yolo.yolo26.detect import SIDES
from sparsity.yolo.yolov8.architectures import STRIDES, Scale, box_branch, branches

SCALES: Mapping[str, Scale] = {
    name.replace("yolo11", "yolo26"): scale for name, scale in yolo11.SCALES.items()
}


def yolo26(name: str, nc: int = 80) -> Architecture:
    """Return the architecture of yolo26n, s, m, l or x for nc classes. Raises KeyError for another name.

    It has both branches of the head, and runs the one-to-many branch.
    """
    scale = SCALES[name]
    c256, c512, c1024 = (scale.channels(c) for c in (256, 512, 1024))
    n = scale.repeats(2)
    return (
        *stem(scale),
        layer(conv(c512, c512, 3, 2)),
        layer(c3k2(c512, c512, n, c3k=True)),
        layer(conv(c512, c1024, 3, 2)),
        layer(c3k2(c1024, c1024, n, c3k=True)),
        layer(sppf(c1024, c1024, 5, add=True, act="Identity")),
        layer(c2psa(c1024, n)),
        *neck(scale, True, c3k2_of(c512 + c1024, c1024, c1024 // 2, [attentive(c1024 // 2)])),
        layer(two_branch_detect((c256, c512, c1024), nc), 16, 19, 22),
    )


def attentive(channels: int) -> ModuleSpec:
    """Return the block of the last C3k2: a bottleneck, then attention."""
    return numbered("Sequential", [bottleneck(channels, channels // 2), psa_block(channels)])


def two_branch_detect(channels: tuple[int, ...], nc: int, strides: tuple[int, ...] = STRIDES) -> ModuleSpec:
    """Return a head with both branches over feature maps with these channel counts."""
    attributes: dict[str, Value] = {"nc": nc, "reg_max": 1, "strides": strides}
    children = {}
    for boxes, classes in BRANCHES.values():
        children[boxes] = branches(channels, max(16, channels[0] // 4, SIDES), SIDES, box_branch)
        children[classes] = branches(channels, max(channels[0], min(nc, 100)), nc, class_branch)
    return ModuleSpec(KIND_OF[ONE2MANY], attributes, children | {"dfl": ModuleSpec("Identity")})
