"""Networks as the ultralytics package would hold them, and the files that it would write."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sparsity.formats.stand_ins import StandIn, saved, stand_in
from sparsity.yolo.families import CLASS_NAMES
from sparsity.yolo.network import Network
from sparsity.yolo.registry import KINDS
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolo12.published import AREA_ATTENTION
from sparsity.yolo.yolo26.branches import KIND_OF
from sparsity.yolo.yolov8.published import DETECT, ONE_FILE

NAMED_OTHERWISE = {DETECT: "AnchorFreeDetect", AREA_ATTENTION: "AAttn"}
CLASSES = {
    NAMED_OTHERWISE.get(kind, kind): path
    for path, kind in CLASS_NAMES.items()
    if path[0].startswith("ultralytics") and "DW" not in path[1] and path not in ONE_FILE
}
CLASSES |= dict.fromkeys(KIND_OF.values(), CLASSES["AnchorFreeDetect"])
"""Kind -> the class under which the package writes it."""


def published(spec: ModuleSpec) -> nn.Module:
    """The module as the ultralytics package would hold it."""
    children = {name: published(child) for name, child in spec.children.items()}
    if spec.kind not in CLASSES:
        return KINDS[spec.kind].make(**spec.attributes, **children)
    attributes = dict(spec.attributes)
    if spec.kind == "DFL":
        children = {"conv": nn.Conv2d(attributes["c1"], 1, 1, bias=False)}
        children["conv"].weight.data[:] = torch.arange(attributes["c1"]).view(1, -1, 1, 1)
    if "strides" in attributes:
        attributes["stride"] = torch.tensor(attributes.pop("strides"), dtype=torch.float32)
        attributes |= {"anchors": torch.zeros(2, 5), "shape": torch.Size((1, 67, 8, 8)), "_end2end": False}
    if "residual" in attributes:
        channels = children["cv2"].conv.out_channels
        attributes["gamma"] = nn.Parameter(torch.ones(channels)) if attributes.pop("residual") else None
    return stand_in(*CLASSES[spec.kind], **attributes, **children)


def model(network: Network) -> StandIn:
    """The whole, with the network's weights."""
    layers = [published(one.module) for one in network.architecture]
    for module, one in zip(layers, network.architecture, strict=True):
        module.f = list(one.sources) if len(one.sources) > 1 else one.sources[0]
    whole = stand_in(*CLASSES["Model"], model=nn.Sequential(*layers), names=dict(enumerate(network.names)))
    whole.args, whole.criterion = {"imgsz": 320, "lr0": 0.01}, None
    whole.load_state_dict(network.state_dict(), strict=True)
    return whole.half()


def other(module: str, name: str) -> StandIn:
    """An object of a class that no reader knows."""
    return stand_in(module, name, topk=10, nested=stand_in(module, f"{name}Part"))


def write(path: Path, whole: nn.Module, **more: object) -> Path:
    root = {
        "date": "2026",
        "version": "8.4",
        "epoch": -1,
        "model": whole,
        "ema": None,
        "train_args": {"a": 1},
    }
    path.write_bytes(saved(root | {"train_metrics": {"fitness": 0.5}, "scaler": None, **more}))
    return path
