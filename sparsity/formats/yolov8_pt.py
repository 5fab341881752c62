"""A network -> the .pt that the ultralytics package opens as YOLOv8."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsity.base.files import write_bytes
from sparsity.formats.published_pt import Parts, Publisher
from sparsity.formats.stand_ins import StandIn, saved, stand_in
from sparsity.formats.yolov8_yaml import describe
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network
from sparsity.yolo.yolov8.published import CLASS_NAMES, DETECT, ONE_FILE

MODEL = ("ultralytics.nn.tasks", "DetectionModel")
PUBLISHED = {
    "AnchorFreeDetect" if kind == DETECT else kind: path
    for path, kind in CLASS_NAMES.items()
    if path[1] != "DWConv" and kind != "Model" and path not in ONE_FILE
}
"""Kind of block -> the class under which it is written: the plain class, if several are read as this kind."""


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
        **{"optimizer": None, "scaler": None, "train_args": {}, "train_metrics": {}, "train_results": {}},
        **{"git": None, "date": datetime.now().isoformat(), "version": VERSION},
    }
    return saved(root)


VERSION = "8.0.0"
"""The oldest version of the package that has this form of file."""


def _model(network: Network) -> StandIn:
    made = {"C2f": _c2f, "DFL": _dfl, "AnchorFreeDetect": _head}
    whole = Publisher(PUBLISHED, made).model(MODEL, network)
    whole.inplace, whole.task, whole.criterion = True, "detect", None
    whole.args = {"task": "detect", "model": None, "data": None, "imgsz": 640, "single_cls": False}
    whole.yaml = describe(current_architecture(network))
    return whole


def _c2f(parts: Parts) -> StandIn:
    return stand_in(*PUBLISHED["C2f"], c=parts["cv1"].conv.out_channels // 2, **parts)


def _dfl(parts: Parts) -> StandIn:
    conv = nn.Conv2d(parts["c1"], 1, 1, bias=False)
    return stand_in(*PUBLISHED["DFL"], c1=parts["c1"], conv=conv)


def _head(parts: Parts) -> StandIn:
    nc, bins, maps = parts["nc"], parts["reg_max"], len(parts["cv2"])
    head = stand_in(*PUBLISHED["AnchorFreeDetect"], nc=nc, nl=maps, reg_max=bins, no=nc + 4 * bins)
    for name in ("cv2", "cv3", "dfl"):
        setattr(head, name, parts[name])
    head.stride, head.shape = _strides(parts["strides"]), None
    head.inplace, head.anchors, head.strides = True, _nothing(), _nothing()
    return head


def _strides(strides: tuple[int, ...]) -> Tensor:
    return torch.tensor(strides, dtype=torch.float32, device="cpu")


def _nothing() -> Tensor:
    return torch.empty(0, dtype=torch.float32, device="cpu")
