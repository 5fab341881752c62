"""A published .pt or our .safetensors -> architecture, weights and names; nothing in it is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsity.errors import InputError
from sparsity.formats import compressed
from sparsity.unpickle import Record, StoredFile, StoredTensor, UnknownGlobalError, read_file
from sparsity.yolo.families import CLASS_NAMES, FIXED, OTHER_TASKS
from sparsity.yolo.network import Network, build, drop_neutral_norms, fuse
from sparsity.yolo.published import LEGACY_BUFFERS
from sparsity.yolo.registry import HEADS, KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value

MOST_MODULES = 100_000
DEEPEST_MODULE = 50


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds of a detector.

    weights: float tensors in float32 by their published names (model.0.conv.weight, ...).
    names: the class names in order.
    """

    path: Path
    architecture: Architecture
    weights: dict[str, Tensor] = field(repr=False)
    names: tuple[str, ...]


def load(weights: str | PathLike[str], *, fused: bool = True) -> Network:
    """Load a detection checkpoint of YOLOv5 (v5 to v7) or YOLOv8, or our .safetensors, as a float32 network.

    It is in evaluation mode. Of a checkpoint, `ema` is taken where there is one, else its `model`. With
    fused, each batch norm is folded into its convolution, as pruning expects. Raises InputError where the
    file is missing, damaged, no detection checkpoint, or names anything but the classes of one.
    """
    checkpoint = read_checkpoint(weights)
    network = _build(checkpoint)
    return fuse(network) if fused else network


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read what load does, and raise InputError as it does."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_compressed(path)
    if path.suffix == ".onnx":
        raise InputError(
            f"{path}: an exported network: val_sparse.py validates it as it is; give the .pt or .safetensors "
            "it was made from"
        )
    try:
        stored = read_file(path, CLASS_NAMES)
    except UnknownGlobalError as error:
        raise InputError(f"{path}: {_refusal(error.name)}") from None
    model = _model_record(stored)
    try:
        tree = _TreeReader(stored)
        architecture = tree.read_layers(model)
        names = _names(model, _checked_head(architecture))
    except _UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    weights = stored.read_tensors(tree.tensors)
    floats = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    return Checkpoint(path, architecture, floats, names)


def _read_compressed(path: Path) -> Checkpoint:
    checkpoint = Checkpoint(path, *compressed.read(path))
    try:
        _checked_head(checkpoint.architecture)
    except _UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    return checkpoint


class _UnreadableError(Exception):
    """The file's modules do not make a network that we know; says which and why."""


def _refusal(name: str) -> str:
    if name in OTHER_TASKS:
        expected = "a YOLOv5 detection checkpoint (v5 to v7) or a YOLOv8 one is expected"
        return f"{OTHER_TASKS[name]} ({name}); {expected}"
    name = name if len(name) < 200 else name[:200] + "..."
    return (
        f"refused: it names {name}, which no YOLOv5 detection checkpoint needs, nor a YOLOv8 one; "
        "nothing in the file was run. If you trust it, save its weights again with YOLOv5's or YOLOv8's own "
        "classes"
    )


def _build(checkpoint: Checkpoint) -> Network:
    try:
        network = build(checkpoint.architecture, checkpoint.names, checkpoint.weights)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{checkpoint.path}: its weights do not fit its modules: {reason}") from error
    return drop_neutral_norms(network)


def _model_record(stored: StoredFile) -> Record:
    root = stored.root
    if isinstance(root, Record):
        root = {"model": root}
    if not isinstance(root, dict):
        raise InputError(f"{stored.path}: not a YOLOv5 or YOLOv8 checkpoint: it holds no dict at its root")
    if root.get("format") == "sparsity":
        raise InputError(
            f"{stored.path}: of a .pt form that an early finetune.py wrote and nothing reads any more; train "
            "again, or convert it with the version that wrote it"
        )
    model = root.get("ema") or root.get("model")
    if not isinstance(model, Record) or model.class_name != "Model":
        keys = ", ".join(str(key) for key in list(root)[:8]) or "nothing"
        raise InputError(
            f"{stored.path}: no YOLOv5 or YOLOv8 detection model under 'ema' or 'model' (it holds: {keys}); "
            "a bare state dict is not enough, give the checkpoint that training wrote"
        )
    return model


def _names(model: Record, nc: int) -> tuple[str, ...]:
    names = model.state.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if isinstance(names, list):
        names = [str(name) if isinstance(name, int | float) else name for name in names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _UnreadableError("its model has no class names (a list, or a dict from 0 on)")
    if len(names) != nc:
        raise _UnreadableError(f"its model has {len(names)} class names, but its head has {nc} classes")
    return tuple(names)


def _checked_head(architecture: Architecture) -> int:
    """The head's number of classes, once levels, strides and widths agree."""
    head = architecture[-1].module
    if problem := HEADS[head.kind].misfit(head):
        raise _UnreadableError(f"its head model.{len(architecture) - 1} {problem}")
    return head.attributes["nc"]


class _TreeReader:
    """Walks the stored modules: specs come back, tensors gather by name."""

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored
        self.tensors: dict[str, StoredTensor] = {}
        self._modules_left = MOST_MODULES

    def read_layers(self, model: Record) -> Architecture:
        layers = _children(model).get("model")
        if not isinstance(layers, Record) or layers.class_name != "Sequential":
            raise _UnreadableError("its model has no layers (an nn.Sequential called model is expected)")
        named = _children(layers)
        if list(named) != [str(index) for index in range(len(named))] or not named:
            raise _UnreadableError("its layers are not numbered from 0 on")
        read = tuple(
            Layer(self._read(record, f"model.{name}"), _sources(record, int(name)))
            for name, record in named.items()
        )
        if read[-1].module.kind not in HEADS:
            raise _UnreadableError(f"its last layer is {read[-1].module.kind}; Detect is expected")
        return read

    def _read(self, record: object, name: str) -> ModuleSpec:
        self._modules_left -= 1
        if self._modules_left < 0 or name.count(".") > DEEPEST_MODULE:
            raise _UnreadableError("its modules are nested without end")
        if not isinstance(record, Record) or record.class_name not in KINDS:
            raise _UnreadableError(f"{name} is no module of a YOLOv5 or YOLOv8 network")
        _check_fixed(record, name)
        self._gather_tensors(record, name)
        attributes = {key: self._attribute(record, key, name) for key in KINDS[record.class_name].attributes}
        children = {key: self._read(child, f"{name}.{key}") for key, child in _children(record).items()}
        return ModuleSpec(record.class_name, attributes, {} if KINDS[record.class_name].whole else children)

    def _gather_tensors(self, record: Record, name: str) -> None:
        transient = record.state.get("_non_persistent_buffers_set", set())
        if not isinstance(transient, set):
            raise _UnreadableError(f"{name}._non_persistent_buffers_set is no set")
        for key, value in _tensors(record):
            if key not in transient and key not in LEGACY_BUFFERS:
                self.tensors[f"{name}.{key}"] = value

    def _attribute(self, record: Record, key: str, name: str) -> Value:
        state = record.state
        if record.class_name in ("Conv2d", "Linear") and key == "bias":
            return "bias" in dict(_tensors(record))
        if record.class_name in HEADS and key == "strides":
            return self._strides(state.get("stride"))
        if key not in state:
            raise _UnreadableError(f"{name} has no attribute {key}")
        return _plain(state[key], f"{name}.{key}")

    def _strides(self, stored: object) -> tuple[int, ...]:
        if not isinstance(stored, StoredTensor):
            raise _UnreadableError("its Detect layer has no stride")
        strides = self.stored.read_tensors({"stride": stored})["stride"].flatten().tolist()
        if not strides or not all(s > 0 and float(s).is_integer() for s in strides):
            raise _UnreadableError(f"its strides are {strides}; whole numbers above 0 are expected")
        return tuple(int(s) for s in strides)


def _children(record: Record) -> dict[str, Any]:
    """Submodules by name, without those that are None."""
    modules = record.state.get("_modules")
    modules = modules if isinstance(modules, dict) else {}
    if not all(isinstance(name, str) for name in modules):
        raise _UnreadableError("a module without a name")
    return {name: module for name, module in modules.items() if module is not None}


def _tensors(record: Record) -> Iterator[tuple[str, StoredTensor]]:
    for group in ("_parameters", "_buffers"):
        stored = record.state.get(group)
        for key, value in (stored if isinstance(stored, dict) else {}).items():
            if isinstance(value, StoredTensor):
                yield key, value


def _check_fixed(record: Record, name: str) -> None:
    """Refuse a module that computes something else than others of its kind."""
    for key, value in FIXED.get(record.class_name, {}).items():
        stored = record.state.get(key, value)
        if not isinstance(stored, int) or stored != value:
            shown = repr(stored) if isinstance(stored, int | float) else f"a {type(stored).__name__}"
            raise _UnreadableError(f"{name} has {key} {shown}; {value} is expected")


def _sources(record: Record, index: int) -> tuple[int, ...]:
    stored = record.state.get("f", -1)
    sources = tuple(stored) if isinstance(stored, list | tuple) else (stored,)
    known = range(-index - 1, index)
    for source in sources or [None]:
        if not isinstance(source, int) or source not in known:
            shown = repr(source)[:100] if isinstance(source, int | float | str) else "no layer"
            raise _UnreadableError(f"layer {index} takes its input from {shown}")
    return sources


def _plain(value: object, name: str, *, part: bool = False) -> Value:
    """A number, a word, None or a tuple of those."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and len(value) <= 16 and not part:
        return tuple(_plain(one, name, part=True) for one in value)
    raise _UnreadableError(f"{name} is a {type(value).__name__}; a plain value is expected")
