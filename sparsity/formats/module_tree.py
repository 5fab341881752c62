"""The stored modules of a checkpoint -> architecture, and the places of its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsity.formats.architecture import UnreadableError
from sparsity.formats.unpickle import Record, StoredFile, StoredTensor
from sparsity.yolo.families import CHOICES
from sparsity.yolo.registry import HEADS, KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value
from sparsity.yolo.yolov5.published import LEGACY_BUFFERS

MOST_MODULES = 100_000
DEEPEST_MODULE = 50
NOTES = frozenset({"training", "dump_patches", "i", "f", "type", "np"})
"""Attributes of any module that have no effect on what it computes."""


class TreeReader:
    """Walks the stored modules. Returns their specs, and collects their tensors by name."""

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored
        self.tensors: dict[str, StoredTensor] = {}
        self._modules_left = MOST_MODULES

    def read_layers(self, model: Record) -> Architecture:
        layers = _children(model).get("model")
        if not isinstance(layers, Record) or layers.class_name != "Sequential":
            raise UnreadableError("its model has no layers (an nn.Sequential called model is expected)")
        named = _children(layers)
        if list(named) != [str(index) for index in range(len(named))] or not named:
            raise UnreadableError("its layers are not numbered from 0 on")
        read = tuple(
            Layer(self._read(record, f"model.{name}"), _sources(record, int(name)))
            for name, record in named.items()
        )
        if read[-1].module.kind not in HEADS:
            raise UnreadableError(f"its last layer is {read[-1].module.kind}; Detect is expected")
        return read

    def _read(self, record: object, name: str) -> ModuleSpec:
        self._modules_left -= 1
        if self._modules_left < 0 or name.count(".") > DEEPEST_MODULE:
            raise UnreadableError("its modules are nested without end")
        if not isinstance(record, Record) or record.class_name not in KINDS.keys() | CHOICES.keys():
            raise UnreadableError(f"{name} is not a module of a YOLOv5 or YOLOv8 network")
        kind = _kind(record, name)
        _check_attributes(record, kind, name)
        self._gather_tensors(record, name)
        attributes = {key: self._attribute(record, kind, key, name) for key in KINDS[kind].attributes}
        children = {key: self._read(child, f"{name}.{key}") for key, child in _children(record).items()}
        return ModuleSpec(kind, attributes, {} if KINDS[kind].whole else children)

    def _gather_tensors(self, record: Record, name: str) -> None:
        transient = record.state.get("_non_persistent_buffers_set", set())
        if not isinstance(transient, set):
            raise UnreadableError(f"{name}._non_persistent_buffers_set is not a set")
        for key, value in _tensors(record):
            if key not in transient and key not in LEGACY_BUFFERS:
                self.tensors[f"{name}.{key}"] = value

    def _attribute(self, record: Record, kind: str, key: str, name: str) -> Value:
        state = record.state
        if kind in ("Conv2d", "Linear") and key == "bias":
            return "bias" in dict(_tensors(record))
        if kind in HEADS and key == "strides":
            return self._strides(state.get("stride"))
        if key not in state:
            raise UnreadableError(f"{name} has no attribute {key}")
        return _plain(state[key], f"{name}.{key}")

    def _strides(self, stored: object) -> tuple[int, ...]:
        if not isinstance(stored, StoredTensor):
            raise UnreadableError("its Detect layer has no stride")
        strides = self.stored.read_tensors({"stride": stored})["stride"].flatten().tolist()
        if not strides or not all(s > 0 and float(s).is_integer() for s in strides):
            raise UnreadableError(f"its strides are {strides}; whole numbers above 0 are expected")
        return tuple(int(s) for s in strides)


def _children(record: Record) -> dict[str, Any]:
    """Return the submodules by name, without those that are None."""
    modules = record.state.get("_modules")
    modules = modules if isinstance(modules, dict) else {}
    if not all(isinstance(name, str) for name in modules):
        raise UnreadableError("has a module without a name")
    return {name: module for name, module in modules.items() if module is not None}


def _tensors(record: Record) -> Iterator[tuple[str, StoredTensor]]:
    for group in ("_parameters", "_buffers"):
        stored = record.state.get(group)
        for key, value in (stored if isinstance(stored, dict) else {}).items():
            if isinstance(value, StoredTensor):
                yield key, value


def _kind(record: Record, name: str) -> str:
    """Return the kind of a stored module: by its class, or by its content if kinds share the class."""
    choose = CHOICES.get(record.class_name)
    if choose is None:
        return record.class_name
    try:
        return choose(_children(record).keys(), record.state)
    except ValueError as error:
        raise UnreadableError(f"{name} {error}") from None


def _check_attributes(record: Record, kind: str, name: str) -> None:
    """Refuse a module that stores an attribute which could change what it computes."""
    known = KINDS[kind]
    for key, value in record.state.items():
        if not isinstance(key, str):
            raise UnreadableError(f"{name} has an attribute without a name")
        if key in known.fixed:
            if not any(type(value) is type(one) and value == one for one in known.fixed[key]):
                shown = repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
                raise UnreadableError(f"{name} has {key} {shown}; {known.fixed[key][0]} is expected")
        elif not (key.startswith("_") or key in NOTES or key in known.attributes or key in known.notes):
            raise UnreadableError(
                f"{name} ({kind}) has an attribute {key[:100]!r} that is not supported; it could change what "
                "the module computes"
            )


def _sources(record: Record, index: int) -> tuple[int, ...]:
    stored = record.state.get("f", -1)
    sources = tuple(stored) if isinstance(stored, list | tuple) else (stored,)
    known = range(-index - 1, index)
    for source in sources or [None]:
        if not isinstance(source, int) or source not in known:
            shown = repr(source)[:100] if isinstance(source, int | float | str) else "no layer"
            raise UnreadableError(f"layer {index} takes its input from {shown}")
    return sources


def _plain(value: object, name: str, *, part: bool = False) -> Value:
    """Return a number, a text, None or a tuple of these. Raises UnreadableError for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and len(value) <= 16 and not part:
        return tuple(_plain(one, name, part=True) for one in value)
    raise UnreadableError(f"{name} is a {type(value).__name__}; a plain value is expected")
