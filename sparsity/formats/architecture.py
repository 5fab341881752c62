"""Architectures as plain lists and dicts, as files store them."""

from __future__ import annotations

from typing import Any

from sparsity.yolo.attributes import misfit, shown
from sparsity.yolo.registry import KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value

DEEPEST = 50
LONGEST_TUPLE = 16


class UnreadableError(Exception):
    """The content of a file is not a network.

    The message says why. It follows the file's name in an error.
    """


def as_data(architecture: Architecture) -> list[dict[str, Any]]:
    """Return [layer, ...], where layer = {"sources": [...], "module": module}.

    module = {"kind": str, "attributes": {name: value}, "children": {name: module}}
    """
    return [
        {"sources": list(layer.sources), "module": _module_as_data(layer.module)} for layer in architecture
    ]


def read_architecture(stored: object) -> Architecture:
    """Check a list that as_data returned, and return the architecture. Raises UnreadableError."""
    if not isinstance(stored, list) or not stored:
        raise UnreadableError("has no list of layers")
    return tuple(_layer(layer, i) for i, layer in enumerate(stored))


def _module_as_data(spec: ModuleSpec) -> dict[str, Any]:
    attributes = {key: list(v) if isinstance(v, tuple) else v for key, v in spec.attributes.items()}
    children = {name: _module_as_data(child) for name, child in spec.children.items()}
    return {"kind": spec.kind, "attributes": attributes, "children": children}


def _layer(stored: object, index: int) -> Layer:
    sources = stored.get("sources") if isinstance(stored, dict) else None
    known = range(-index - 1, index)
    if (
        not isinstance(sources, list)
        or not sources
        or not all(type(s) is int and s in known for s in sources)
    ):
        raise UnreadableError(f"has a layer {index} whose inputs are not layers before it")
    return Layer(_module(stored.get("module"), f"model.{index}"), tuple(sources))


def _module(stored: object, name: str) -> ModuleSpec:
    if not isinstance(stored, dict) or name.count(".") > DEEPEST:
        raise UnreadableError(f"has no module at {name}")
    kind, attributes, children = (stored.get(key) for key in ("kind", "attributes", "children"))
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnreadableError(f"names an unknown kind of module at {name}")
    known = KINDS[kind]
    if isinstance(attributes, dict):
        attributes = {**known.defaults, **attributes}
    if not isinstance(attributes, dict) or set(attributes) != set(known.all_attributes):
        raise UnreadableError(f"has attributes at {name} that differ from those of a {kind}")
    if not isinstance(children, dict) or not all(isinstance(child, str) for child in children):
        raise UnreadableError(f"has no submodules by name at {name}")
    values = {key: _value(value, f"{name}.{key}", key) for key, value in attributes.items()}
    return ModuleSpec(kind, values, {key: _module(c, f"{name}.{key}") for key, c in children.items()})


def _value(stored: object, name: str, key: str) -> Value:
    value = tuple(stored) if isinstance(stored, list) and len(stored) <= LONGEST_TUPLE else stored
    if expected := misfit(key, value):
        raise UnreadableError(f"has {shown(value)} at {name}; {expected} is expected")
    return value
