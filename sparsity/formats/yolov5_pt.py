"""A network -> the .pt that YOLOv5's own val.py, detect.py, export.py and torch.hub open."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.errors import InputError
from sparsity.files import write_bytes
from sparsity.formats.half import to_half
from sparsity.formats.stand_ins import StandIn, saved, stand_in
from sparsity.formats.yolov5_yaml import describe
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network
from sparsity.yolo.published import CLASS_NAMES
from sparsity.yolo.registry import KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

MODEL = ("models.yolo", "DetectionModel")
PUBLISHED = {
    kind: (module, name)
    for (module, name), kind in CLASS_NAMES.items()
    if module in ("models.common", "models.yolo") and name == kind
}
"""The class under which a kind of block is written: the plain one, where several are read as that kind."""


def write(network: Network, path: Path) -> None:
    """Write a checkpoint as YOLOv5 (v6.2 on) publishes them, whole or not at all; load reads it, too.

    Every floating-point tensor is kept in half precision, what is not zero stays so; no mask, no
    optimizer. YOLOv5 expects a batch norm in every Conv: one that was fused gets a neutral one, which
    only adds the bias (see drop_neutral_norms). Raises InputError where path can't be written, a weight
    is not finite or too large for float16, or a layer after the first takes the image itself.
    """
    write_bytes(path, encode(network))


def encode(network: Network) -> memoryview:
    """The content of the file that write makes, in memory: torch.save raises no OSError on a full disk."""
    root = {
        **{"epoch": -1, "best_fitness": None, "model": _model(network), "ema": None, "updates": None},
        **{"optimizer": None, "opt": None, "git": None, "date": datetime.now().isoformat()},
    }
    return saved(root)


def _model(network: Network) -> StandIn:
    architecture = current_architecture(network)
    with torch.device("meta"):
        layers = nn.Sequential(*(_layer(layer, i) for i, layer in enumerate(architecture)))
    head, stride = layers[-1], _stride(network.strides)
    whole = stand_in(*MODEL, model=layers, save=_kept(architecture), names=dict(enumerate(network.names)))
    whole.nc, whole.inplace, whole.stride = head.nc, True, stride
    weights = _with_neutral_norms(_half_weights(network), whole)
    whole.load_state_dict(weights, strict=True, assign=True)
    whole.yaml = describe(architecture, head.anchors.float() * stride.float()[:, None, None])
    return whole.requires_grad_(False).eval()


def _layer(layer: Layer, index: int) -> nn.Module:
    """One layer, with what YOLOv5 notes on it: i, f, type and np (its number of parameters)."""
    module = _module(layer.module)
    as_list = len(layer.sources) > 1 or layer.module.kind == "Detect"
    module.i, module.f = index, list(layer.sources) if as_list else layer.sources[0]
    module.type = f"{type(module).__module__}.{type(module).__qualname__}"
    module.np = sum(parameter.numel() for parameter in module.parameters())
    return module


def _module(spec: ModuleSpec) -> nn.Module:
    children = {name: _module(child) for name, child in spec.children.items()}
    if spec.kind not in PUBLISHED:
        return KINDS[spec.kind].make(**spec.attributes, **children)
    attributes: dict[str, Any] = dict(spec.attributes)
    if spec.kind == "Conv":
        children = _as_published(children)
    elif spec.kind == "TransformerBlock":
        attributes |= {"conv": None, "c2": children["linear"].out_features}
    elif spec.kind == "Detect":
        return _head(children["m"], **attributes)
    return stand_in(*PUBLISHED[spec.kind], **attributes | children)


def _as_published(conv: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """A Conv's modules, with a batch norm in place of the bias where there is none."""
    if hasattr(conv["act"], "inplace"):
        conv["act"].inplace = True
    if "bn" in conv:
        return conv
    conv["conv"].bias = None
    norm = nn.BatchNorm2d(conv["conv"].out_channels, eps=0.0, momentum=0.03)
    return {"conv": conv["conv"], "bn": norm, "act": conv["act"]}


def _head(m: nn.ModuleList, nc: int, na: int, strides: tuple[int, ...]) -> StandIn:
    head = stand_in(*PUBLISHED["Detect"], nc=nc, no=5 + nc, nl=len(m), na=na)
    for name in ("grid", "anchor_grid"):
        setattr(head, name, [torch.empty(0, dtype=torch.float16, device="cpu") for _ in m])
    head.register_buffer("anchors", torch.empty(len(m), na, 2))
    head.m, head.inplace, head.stride = m, True, _stride(strides)
    return head


def _stride(strides: tuple[int, ...]) -> Tensor:
    return torch.tensor(strides, dtype=torch.float16, device="cpu")


def _half_weights(network: Network) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in network.state_dict().items():
        own = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        weights[name] = to_half(own, name) if own.is_floating_point() else own
    return weights


def _with_neutral_norms(weights: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """The weights, with those of the norms that whole has and the network lacks: biases move into them."""
    weights = dict(weights)
    for name, norm in whole.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and f"{name}.weight" not in weights:
            ones, zeros = (fill(norm.num_features, dtype=torch.float16) for fill in (torch.ones, torch.zeros))
            bias = weights.pop(f"{name.removesuffix('bn')}conv.bias", zeros.clone())
            neutral = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": ones.clone()}
            neutral["num_batches_tracked"] = torch.tensor(0)
            weights |= {f"{name}.{key}": tensor for key, tensor in neutral.items()}
    return weights


def _kept(architecture: Architecture) -> list[int]:
    """The layers whose output another than the next one takes. Raises InputError as write does."""
    kept = set()
    for index, layer in enumerate(architecture):
        sources = {s if s >= 0 else index + s for s in layer.sources if s != -1}
        if -1 in sources:
            raise InputError(f"model.{index} takes the image itself, which a .pt of YOLOv5's can't say")
        kept |= sources
    return sorted(kept)
