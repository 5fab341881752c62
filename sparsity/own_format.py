"""Our own .pt files: architecture as data, class names and weights, in torch.save's zip.

root = {"format": "sparsity", "version": 1, "names": [...], "architecture": [layer, ...], "weights": {...}}
layer = {"sources": [...], "module": {"kind", "attributes": {...}, "children": {name: module, ...}}}

Reading goes through the same restricted unpickler as YOLOv5's files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.errors import InputError
from sparsity.files import replacing, writing_into
from sparsity.pruning.apply import convolutions
from sparsity.yolo.network import Network
from sparsity.yolo.registry import KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value

FORMAT, VERSION = "sparsity", 1
DEEPEST = 50
_TINIEST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps


class UnreadableError(Exception):
    """The file's content makes no network; says why."""


def save(network: Network, path: str | Path) -> None:
    """Write a network, whole or not at all; load reads it again.

    Weights of convolutions are kept in half precision, as YOLOv5 keeps them, and what is not zero
    stays so; all else in float32. The network's zeros are part of its weights: no mask is written.
    Raises InputError where path can't be written, or a weight is not finite or too large for float16.
    """
    path = Path(path)
    halves = {f"{name}.weight" for name, _ in convolutions(network)}
    weights = {
        name: _half(tensor.detach().cpu().contiguous(), name)
        if name in halves
        else tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    root = {
        "format": FORMAT,
        "version": VERSION,
        "names": list(network.names),
        "architecture": [
            {"sources": list(layer.sources), "module": _as_data(module_spec(layer, module))}
            for layer, module in zip(network.architecture, network.model, strict=True)
        ],
        "weights": weights,
    }
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(root, temporary)


def is_ours(root: object) -> bool:
    """Whether a file's root says that it is one of ours."""
    return isinstance(root, dict) and root.get("format") == FORMAT


def read_root(root: dict[str, Any]) -> tuple[Architecture, dict[str, Any], tuple[str, ...]]:
    """The architecture, the stored weights by name, and the class names, not checked any further.

    Raises UnreadableError.
    """
    if root.get("version") != VERSION:
        raise UnreadableError(f"is of version {root.get('version')!r} of our format; {VERSION} is expected")
    layers, weights, names = (root.get(key) for key in ("architecture", "weights", "names"))
    if not isinstance(layers, list) or not layers or not isinstance(weights, dict):
        raise UnreadableError("has no list of layers or no weights")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError("has no list of class names")
    return tuple(_layer(layer, i) for i, layer in enumerate(layers)), weights, tuple(names)


def module_spec(layer: Layer, module: nn.Module) -> ModuleSpec:
    """The layer's spec as the module is now: a fused Conv has no batch norm and its Conv2d a bias."""
    return _current(layer.module, module)


def _current(spec: ModuleSpec, module: nn.Module) -> ModuleSpec:
    attributes = dict(spec.attributes)
    if isinstance(module, nn.Conv2d):
        attributes["bias"] = module.bias is not None
    children = {
        name: _current(child, module.get_submodule(name))
        for name, child in spec.children.items()
        if getattr(module, name, module) is not None
    }
    return ModuleSpec(spec.kind, attributes, children)


def _as_data(spec: ModuleSpec) -> dict[str, Any]:
    attributes = {key: list(v) if isinstance(v, tuple) else v for key, v in spec.attributes.items()}
    children = {name: _as_data(child) for name, child in spec.children.items()}
    return {"kind": spec.kind, "attributes": attributes, "children": children}


def _layer(stored: object, index: int) -> Layer:
    sources = stored.get("sources") if isinstance(stored, dict) else None
    known = range(-index - 1, index)
    if not isinstance(sources, list) or not sources or not all(s in known for s in sources):
        raise UnreadableError(f"has layer {index} without inputs that are layers before it")
    return Layer(_module(stored["module"], f"model.{index}"), tuple(sources))


def _module(stored: object, name: str) -> ModuleSpec:
    if not isinstance(stored, dict) or name.count(".") > DEEPEST:
        raise UnreadableError(f"has no module at {name}")
    kind, attributes, children = (stored.get(key) for key in ("kind", "attributes", "children"))
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnreadableError(f"names an unknown kind of module at {name}")
    if not isinstance(attributes, dict) or set(attributes) != set(KINDS[kind].attributes):
        raise UnreadableError(f"has other attributes at {name} than a {kind} has")
    if not isinstance(children, dict) or not all(isinstance(child, str) for child in children):
        raise UnreadableError(f"has no modules by name at {name}")
    values = {key: _value(value, f"{name}.{key}") for key, value in attributes.items()}
    return ModuleSpec(kind, values, {key: _module(c, f"{name}.{key}") for key, c in children.items()})


def _value(stored: object, name: str) -> Value:
    if isinstance(stored, list) and len(stored) <= 16:
        return tuple(_value(one, name) for one in stored if not isinstance(one, list))
    if stored is None or isinstance(stored, bool | int | float | str):
        return stored
    raise UnreadableError(f"has no plain value at {name}")


def _half(weight: Tensor, name: str) -> Tensor:
    """In half precision; what is too small for it becomes the smallest number of its sign."""
    half = weight.to(torch.float16)
    if not torch.isfinite(half).all():
        raise InputError(f"{name}: a weight is not finite or above 65504; such a network can't be saved")
    lost = (half == 0) & (weight != 0)
    half[lost] = weight[lost].sign().to(torch.float16) * _TINIEST
    return half
