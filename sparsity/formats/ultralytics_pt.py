"""A network -> the .pt that the ultralytics package opens: YOLOv8, YOLO11, YOLO12 and YOLO26."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsity.base.files import write_bytes
from sparsity.formats.published_pt import ClassName, Parts, Publisher
from sparsity.formats.stand_ins import StandIn, saved, stand_in
from sparsity.formats.training_arguments import IMGSZ
from sparsity.formats.ultralytics_yaml import describe
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import CLASS_NAMES
from sparsity.yolo.network import Network
from sparsity.yolo.spec import Architecture, kinds_of
from sparsity.yolo.yolo12.published import AREA_ATTENTION
from sparsity.yolo.yolo26.branches import BRANCHES, CHOSEN, KIND_OF
from sparsity.yolo.yolov8.published import DETECT

MODEL = ("ultralytics.nn.tasks", "DetectionModel")
KINDS_OF_CLASS = {DETECT: ("AnchorFreeDetect", *KIND_OF.values()), AREA_ATTENTION: ("AAttn",)}
"""Class names that several kinds share -> these kinds."""
PUBLISHED: dict[str, ClassName] = {
    kind: path
    for path, name in CLASS_NAMES.items()
    if path[0].startswith("ultralytics.nn.modules.") and path[1] != "DWConv"
    for kind in KINDS_OF_CLASS.get(name, (name,))
}
"""Kind of block -> the class under which it is written: the plain class, if several are read as this kind."""
USUAL_IMGSZ = 640
"""Pixels; of a checkpoint that does not tell the side of its training images."""
OLDEST = "8.0.0"
"""The oldest version of the package that has this form of file."""
OLDEST_WITH = {"C3k2": "8.3.0", "A2C2f": "8.3.78", **dict.fromkeys(KIND_OF.values(), "8.4.0")}
"""Kind of block -> the version from which on the package has it, in the order of versions."""


def write(network: Network, path: Path) -> None:
    """Write a checkpoint in the ultralytics package's form, completely or not at all. load reads it, too.

    Weights are stored as yolov5_pt.write stores them, with neutral batch norms where they were fused. Raises
    InputError as yolov5_pt.write does.
    """
    write_bytes(path, encode(network))


def encode(network: Network) -> memoryview:
    """Return the content of the file that write makes."""
    root = {
        **{"epoch": -1, "best_fitness": None, "model": _model(network), "ema": None, "updates": None},
        **{
            "optimizer": None,
            "scaler": None,
            "train_args": dict(network.trained_with),
            "train_metrics": {},
            "train_results": {},
        },
        **{"git": None, "date": datetime.now().isoformat(), "version": _version(network.architecture)},
    }
    return saved(root)


def _version(architecture: Architecture) -> str:
    """Return the oldest version of the package that can open a file of this architecture."""
    kinds = kinds_of(architecture)
    return [OLDEST, *(version for kind, version in OLDEST_WITH.items() if kind in kinds)][-1]


def _model(network: Network) -> StandIn:
    halved = {kind: _halved(kind) for kind in ("C2f", "C3k2", "C2PSA")}
    heads = {kind: partial(_two_branches, branch) for branch, kind in KIND_OF.items()}
    made = {**halved, "A2C2f": _a2c2f, "AAttn": _aattn, "DFL": _dfl, "AnchorFreeDetect": _detect, **heads}
    whole = Publisher(PUBLISHED, made).model(MODEL, network)
    whole.inplace, whole.task, whole.criterion = True, "detect", None
    whole.args = {"task": "detect", "model": None, "data": None, "single_cls": False, IMGSZ: USUAL_IMGSZ}
    whole.args |= network.trained_with
    whole.yaml = describe(current_architecture(network))
    return whole


def _halved(kind: str) -> Callable[[Parts], StandIn]:
    """Return what makes a block whose first convolution gives two halves, of c channels each."""
    return lambda parts: stand_in(*PUBLISHED[kind], c=parts["cv1"].conv.out_channels // 2, **parts)


def _a2c2f(parts: Parts) -> StandIn:
    channels = parts["cv2"].conv.out_channels
    gamma = nn.Parameter(torch.empty(channels)) if parts.pop("residual") else None
    return stand_in(*PUBLISHED["A2C2f"], gamma=gamma, **parts)


def _aattn(parts: Parts) -> StandIn:
    return stand_in(*PUBLISHED["AAttn"], all_head_dim=parts["num_heads"] * parts["head_dim"], **parts)


def _dfl(parts: Parts) -> StandIn:
    conv = nn.Conv2d(parts["c1"], 1, 1, bias=False)
    return stand_in(*PUBLISHED["DFL"], c1=parts["c1"], conv=conv)


def _detect(parts: Parts) -> StandIn:
    """Return a head, with the attributes that the package's own have."""
    nc, bins = parts["nc"], parts["reg_max"]
    maps = len(parts["strides"])
    head = stand_in(*PUBLISHED["AnchorFreeDetect"], nc=nc, nl=maps, reg_max=bins, no=nc + 4 * bins)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            setattr(head, name, part)
    head.stride, head.shape = _strides(parts["strides"]), None
    head.inplace, head.anchors, head.strides = True, _nothing(), _nothing()
    return head


def _two_branches(branch: str, parts: Parts) -> StandIn:
    """Return a head of YOLO26 that runs a branch. One that is not held is None, as if the package dropped it.

    Of two branches, the package's settings choose one.
    """
    head = _detect({"dfl": nn.Identity()} | parts)
    setattr(head, CHOSEN, branch)
    for name in (name for names in BRANCHES.values() for name in names if name not in parts):
        head.register_module(name, None)
    return head


def _strides(strides: tuple[int, ...]) -> Tensor:
    return torch.tensor(strides, dtype=torch.float32, device="cpu")


def _nothing() -> Tensor:
    return torch.empty(0, dtype=torch.float32, device="cpu")
