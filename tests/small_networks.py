"""Small networks of all families, with every kind of module, to be saved and damaged."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from sparsity.yolo.network import Network, build
from sparsity.yolo.parts import concat, conv, conv2d, layer, numbered, sppf, upsample
from sparsity.yolo.spec import Architecture, ModuleSpec
from sparsity.yolo.yolo11.architectures import bottleneck, c2psa, c3k2, c3k2_of, light_detect, psa_block
from sparsity.yolo.yolo12.architectures import aggregating, attending
from sparsity.yolo.yolo12.blocks import A2C2f
from sparsity.yolo.yolo26.architectures import two_branch_detect
from sparsity.yolo.yolov5.architectures import c3
from sparsity.yolo.yolov8.architectures import c2f

NAMES = ("cat", "dog")
STRIDES = (4, 8)
BINS = 4


@cache
def small_networks() -> tuple[Network, ...]:
    """A YOLOv5, one of the blocks that other releases have, and a YOLOv8; with batch norms."""
    torch.manual_seed(0)
    networks = tuple(build(one, NAMES) for one in (yolov5(), other_yolov5(), yolov8()))
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        if network.dialect == "yolov5":
            network.head.anchors.uniform_(1, 4)
        network.requires_grad_(False)
    return networks


@cache
def newer_networks() -> tuple[Network, ...]:
    """A YOLO12 with gamma and areas, and a YOLO26 with both branches; with batch norms."""
    torch.manual_seed(0)
    networks = tuple(build(one, NAMES) for one in (yolo12(), yolo26()))
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            if isinstance(module, A2C2f) and module.gamma is not None:
                nn.init.uniform_(module.gamma, 0.5, 1.5)
        network.requires_grad_(False)
    return networks


def yolo12() -> Architecture:
    """Blocks of YOLO12, and the head of YOLO11 and YOLO12."""
    return (
        layer(conv(3, 64, 3, 4)),
        layer(attending(64, 1, 4, large=True)),
        layer(aggregating(64, 8, 1)),
        layer(conv(8, 8, 3, 2)),
        layer(c3k2(8, 8, 1, c3k=True)),
        layer(light_detect((8, 8), len(NAMES), STRIDES), 2, 4),
    )


def yolo26() -> Architecture:
    """Blocks of YOLO11 and YOLO26, and the head of YOLO26."""
    return (
        layer(conv(3, 8, 3, 4)),
        layer(c3k2(8, 8, 1)),
        layer(conv(8, 16, 3, 2)),
        layer(sppf(16, 16, 5, add=True, act="Identity")),
        layer(c2psa(16, 1)),
        layer(c3k2_of(16, 16, 8, [numbered("Sequential", [bottleneck(8, 4), psa_block(8)])])),
        layer(two_branch_detect((8, 16), len(NAMES), STRIDES), 1, 5),
    )


def yolov5() -> Architecture:
    return _two_levels(c3(8, 8, 1), c3(16, 8, 1, shortcut=False), _anchored((8, 8)))


def yolov8() -> Architecture:
    return _two_levels(c2f(8, 8, 1), c2f(16, 8, 1, shortcut=False), _anchor_free((8, 8)))


def _two_levels(block: ModuleSpec, last: ModuleSpec, head: ModuleSpec) -> Architecture:
    return (
        layer(conv(3, 8, 6, 2, 2)),
        layer(conv(8, 8, 3, 2)),
        layer(block),
        layer(conv(8, 8, 3, 2)),
        layer(sppf(8, 8, 5)),
        layer(upsample()),
        layer(concat(), -1, 2),
        layer(last),
        layer(head, 7, 4),
    )


def other_yolov5() -> Architecture:
    """The blocks of older releases, and those of models that are seldom trained, one after the other."""
    return (
        layer(_module("Focus", conv=conv(12, 8, 3))),
        layer(conv(8, 8, 3, 2)),
        layer(_csp(8)),
        layer(_spp(8)),
        layer(_module("GhostConv", cv1=conv(8, 4), cv2=conv(4, 4, 5))),
        layer(_transformer(8)),
        layer(ModuleSpec("Contract", {"gain": 2})),
        layer(conv(32, 32)),
        layer(ModuleSpec("Expand", {"gain": 2})),
        layer(conv(8, 8, 3, 2)),
        layer(_anchored((8, 8)), 8, 9),
    )


def _module(kind: str, **children: ModuleSpec) -> ModuleSpec:
    return ModuleSpec(kind, {}, children)


def _anchored(channels: tuple[int, ...]) -> ModuleSpec:
    maps = [conv2d(c, 3 * (5 + len(NAMES)), 1, 1, 0, bias=True) for c in channels]
    attributes = {"nc": len(NAMES), "na": 3, "strides": STRIDES}
    return ModuleSpec("Detect", attributes, {"m": numbered("ModuleList", maps)})


def _anchor_free(channels: tuple[int, ...]) -> ModuleSpec:
    def branches(width: int) -> ModuleSpec:
        parts = [[conv(c, 8, 3), conv(8, 8), conv2d(8, width, 1, 1, 0, bias=True)] for c in channels]
        return numbered("ModuleList", [numbered("Sequential", one) for one in parts])

    children = {
        "cv2": branches(4 * BINS),
        "cv3": branches(len(NAMES)),
        "dfl": ModuleSpec("DFL", {"c1": BINS}),
    }
    attributes = {"nc": len(NAMES), "reg_max": BINS, "strides": STRIDES}
    return ModuleSpec("AnchorFreeDetect", attributes, children)


def _csp(c: int) -> ModuleSpec:
    norm = ModuleSpec("BatchNorm2d", {"num_features": c, "eps": 1e-3, "momentum": 0.03})
    bottleneck = ModuleSpec("Bottleneck", {"add": True}, {"cv1": conv(4, 4), "cv2": conv(4, 4, 3)})
    bare = {"cv2": conv2d(c, 4, 1, 1, 0, bias=False), "cv3": conv2d(4, 4, 1, 1, 0, bias=False)}
    act = ModuleSpec("LeakyReLU", {"negative_slope": 0.1})
    m = numbered("Sequential", [bottleneck])
    return _module("BottleneckCSP", cv1=conv(c, 4), **bare, cv4=conv(c, c), bn=norm, act=act, m=m)


def _spp(c: int) -> ModuleSpec:
    pools = [ModuleSpec("MaxPool2d", {"kernel_size": k, "stride": 1, "padding": k // 2}) for k in (3, 5)]
    return _module("SPP", cv1=conv(c, 4), cv2=conv(12, c), m=numbered("ModuleList", pools))


def _transformer(c: int) -> ModuleSpec:
    linear = ModuleSpec("Linear", {"in_features": c, "out_features": c, "bias": False})
    attention = ModuleSpec("MultiheadAttention", {"embed_dim": c, "num_heads": 2})
    one = _module("TransformerLayer", ma=attention, **dict.fromkeys(("q", "k", "v", "fc1", "fc2"), linear))
    biased = ModuleSpec("Linear", {"in_features": c, "out_features": c, "bias": True})
    return _module("TransformerBlock", linear=biased, tr=numbered("Sequential", [one]))
