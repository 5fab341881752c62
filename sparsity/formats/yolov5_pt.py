"""A network -> the .pt that YOLOv5's own val.py, detect.py, export.py and torch.hub open."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import torch

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes
from sparsity.formats.published_pt import Parts, Publisher, half_strides
from sparsity.formats.stand_ins import StandIn, saved, stand_in
from sparsity.formats.training_arguments import IMGSZ
from sparsity.formats.yolov5_yaml import describe
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network
from sparsity.yolo.yolov5.published import CLASS_NAMES

MODEL = ("models.yolo", "DetectionModel")
PUBLISHED = {
    kind: (module, name)
    for (module, name), kind in CLASS_NAMES.items()
    if module in ("models.common", "models.yolo") and name == kind
}
"""Kind of block -> the class under which it is written: the plain class, if several are read as this kind."""


def write(network: Network, path: Path) -> None:
    """Write a checkpoint in YOLOv5's published form (v6.2 on), completely or not at all. load reads it, too.

    Every floating-point tensor is stored in half precision, and nonzero values stay nonzero. The file has no
    mask and no optimiser. YOLOv5 expects a batch norm in every Conv. A fused Conv gets a neutral one, which
    only adds the bias (see drop_neutral_norms). Raises InputError if path cannot be written, if a weight is
    not finite or too large for float16, or if a layer after the first takes the image itself.
    """
    write_bytes(path, encode(network))


def encode(network: Network) -> memoryview:
    """Return the content of the file that write makes.

    It is made in memory, because torch.save raises no OSError on a full disk.
    """
    root = {
        **{"epoch": -1, "best_fitness": None, "model": _model(network), "ema": None, "updates": None},
        **{"optimizer": None, "opt": None, "git": None, "date": datetime.now().isoformat()},
    }
    return saved(root)


def _model(network: Network) -> StandIn:
    made = {"SPPF": _sppf, "TransformerBlock": _transformer_block, "Detect": _head}
    whole = Publisher(PUBLISHED, made).model(MODEL, network)
    whole.inplace, strides = True, whole.stride.float()[:, None, None]
    if hyp := {name: value for name, value in network.trained_with.items() if name != IMGSZ}:
        whole.hyp = hyp
    whole.yaml = describe(current_architecture(network), whole.model[-1].anchors.float() * strides)
    return whole


def _sppf(parts: Parts) -> StandIn:
    """Return a SPPF without its attributes, which YOLOv5's class does not have."""
    if (parts.pop("n", 3), parts.pop("add", False)) != (3, False):
        raise InputError("a .pt of YOLOv5 cannot hold an SPPF that adds its input or has other than 3 pools")
    return stand_in(*PUBLISHED["SPPF"], **parts)


def _transformer_block(parts: Parts) -> StandIn:
    more = {"conv": None} | parts | {"c2": parts["linear"].out_features}
    return stand_in(*PUBLISHED["TransformerBlock"], **more)


def _head(parts: Parts) -> StandIn:
    m, nc, na = parts["m"], parts["nc"], parts["na"]
    head = stand_in(*PUBLISHED["Detect"], nc=nc, no=5 + nc, nl=len(m), na=na)
    for name in ("grid", "anchor_grid"):
        setattr(head, name, [torch.empty(0, dtype=torch.float16, device="cpu") for _ in m])
    head.register_buffer("anchors", torch.empty(len(m), na, 2))
    head.m, head.inplace, head.stride = m, True, half_strides(parts["strides"])
    return head
