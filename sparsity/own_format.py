"""Our own .pt files: architecture as data, class names and weights, in torch.save's zip.

root = {"format": "sparsity", "version": 1, "names": [...], "architecture": [layer, ...], "weights": {...}}
layer = {"sources": [...], "module": {"kind", "attributes": {...}, "children": {name: module, ...}}}

Reading goes through the same restricted unpickler as YOLOv5's files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sparsity.files import replacing, writing_into
from sparsity.formats.architecture import UnreadableError, as_data, current_architecture, read_architecture
from sparsity.formats.half import to_half
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import Network
from sparsity.yolo.spec import Architecture

FORMAT, VERSION = "sparsity", 1


def save(network: Network, path: str | Path) -> None:
    """Write a network, whole or not at all; load reads it again.

    Weights of convolutions are kept in half precision, as YOLOv5 keeps them, and what is not zero
    stays so; all else in float32. The network's zeros are part of its weights: no mask is written.
    Raises InputError where path can't be written, or a weight is not finite or too large for float16.
    """
    path = Path(path)
    halves = {f"{name}.weight" for name, _ in convolutions(network)}
    weights = {
        name: to_half(tensor.cpu().contiguous(), name)
        if name in halves
        else tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    root = {
        "format": FORMAT,
        "version": VERSION,
        "names": list(network.names),
        "architecture": as_data(current_architecture(network)),
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
    weights, names = root.get("weights"), root.get("names")
    if not isinstance(weights, dict):
        raise UnreadableError("has no weights")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError("has no list of class names")
    return read_architecture(root.get("architecture")), weights, tuple(names)
