"""Narrow YOLO11, YOLO12 and YOLO26 networks with random weights, which find something."""

from __future__ import annotations

import copy
from functools import cache
from unittest import mock

import torch
from torch import nn

from sparsity.yolo.heads import choose_head, keep_head
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.yolo11 import architectures as yolo11
from sparsity.yolo.yolo12 import architectures as yolo12
from sparsity.yolo.yolo26 import architectures as yolo26
from sparsity.yolo.yolov8.architectures import Scale

NARROW, LARGE = Scale(0.5, 1 / 8, 1024), Scale(1.0, 1 / 8, 1024)
MODULES = {"yolo11": yolo11, "yolo12": yolo12, "yolo26": yolo26}
FEW = ("yolo11", "yolo12", "yolo26", "yolo26 one2one")
NEWER = (*FEW, "yolo12 large", "yolo26 both", "yolo26 both, one2one")
"""Families, with the branches of a YOLO26's head that are held, and the one that runs.

A large YOLO12 has scaled residuals.
"""
NAMES = ("cat", "dog", "bird")


def narrow(key: str, *, fused: bool = True) -> Network:
    """Return a network of NEWER."""
    family, _, more = key.partition(" ")
    network = copy.deepcopy(_unfused(family, LARGE if more == "large" else NARROW))
    if family == "yolo26":
        branch = "one2one" if "one2one" in more else "one2many"
        network = (choose_head if "both" in more else keep_head)(network, branch)
    return fuse(network) if fused else network


@cache
def _unfused(family: str, scale: Scale) -> Network:
    with mock.patch.dict(MODULES[family].SCALES, {"narrow": scale}):
        architecture = getattr(MODULES[family], family)("narrow", len(NAMES))
    torch.manual_seed(0)
    network = build(architecture, NAMES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.requires_grad_(False)
