"""Which kinds of module an architecture may name, and what each is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sparsity.yolo import blocks
from sparsity.yolo.detect import Detect
from sparsity.yolo.head import Head
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolov8.blocks import C2f
from sparsity.yolo.yolov8.detect import DFL, AnchorFreeDetect


@dataclass(frozen=True)
class Kind:
    """How a module is made: make(**attributes, **children).

    whole: whether it makes its children itself.
    """

    make: Callable[..., nn.Module]
    attributes: tuple[str, ...] = ()
    whole: bool = False


def _sequential(**children: nn.Module) -> nn.Sequential:
    return nn.Sequential(*children.values())


def _module_list(**children: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(children.values())


def _attention(embed_dim: int, num_heads: int) -> nn.MultiheadAttention:
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(f"num_heads is {num_heads}, which does not divide embed_dim {embed_dim}")
    return nn.MultiheadAttention(embed_dim, num_heads)


_CONV2D = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")

KINDS: dict[str, Kind] = {
    "Sequential": Kind(_sequential),
    "ModuleList": Kind(_module_list),
    "Identity": Kind(nn.Identity),
    "SiLU": Kind(nn.SiLU),
    "Hardswish": Kind(nn.Hardswish),
    "ReLU": Kind(nn.ReLU),
    "LeakyReLU": Kind(nn.LeakyReLU, ("negative_slope",)),
    "Conv2d": Kind(nn.Conv2d, (*_CONV2D, "bias")),
    "BatchNorm2d": Kind(nn.BatchNorm2d, ("num_features", "eps", "momentum")),
    "MaxPool2d": Kind(nn.MaxPool2d, ("kernel_size", "stride", "padding")),
    "Upsample": Kind(nn.Upsample, ("size", "scale_factor", "mode")),
    "Linear": Kind(nn.Linear, ("in_features", "out_features", "bias")),
    "MultiheadAttention": Kind(_attention, ("embed_dim", "num_heads"), whole=True),
    "Conv": Kind(blocks.Conv),
    "Bottleneck": Kind(blocks.Bottleneck, ("add",)),
    "C3": Kind(blocks.C3),
    "BottleneckCSP": Kind(blocks.BottleneckCSP),
    "SPP": Kind(blocks.SPP),
    "SPPF": Kind(blocks.SPPF),
    "Focus": Kind(blocks.Focus),
    "Concat": Kind(blocks.Concat, ("d",)),
    "Contract": Kind(blocks.Contract, ("gain",)),
    "Expand": Kind(blocks.Expand, ("gain",)),
    "GhostConv": Kind(blocks.GhostConv),
    "GhostBottleneck": Kind(blocks.GhostBottleneck),
    "TransformerLayer": Kind(blocks.TransformerLayer),
    "TransformerBlock": Kind(blocks.TransformerBlock),
    "Detect": Kind(Detect, ("nc", "na", "strides")),
    "C2f": Kind(C2f),
    "DFL": Kind(DFL, ("c1",), whole=True),
    "AnchorFreeDetect": Kind(AnchorFreeDetect, ("nc", "reg_max", "strides")),
}
HEADS: dict[str, type[Head]] = {
    name: kind.make
    for name, kind in KINDS.items()
    if isinstance(kind.make, type) and issubclass(kind.make, Head)
}
"""The kinds that a network may end in."""


def build_module(spec: ModuleSpec) -> nn.Module:
    """Make the module that spec describes, children first."""
    children = {name: build_module(child) for name, child in spec.children.items()}
    return KINDS[spec.kind].make(**spec.attributes, **children)
