"""A network's architecture as plain data: a tree of modules, and the connections between the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Value: TypeAlias = "int | float | bool | str | tuple[Value, ...] | None"


@dataclass(frozen=True)
class ModuleSpec:
    """One module: its kind (a key of registry.KINDS), its attributes and its submodules."""

    kind: str
    attributes: dict[str, Value] = field(default_factory=dict)
    children: dict[str, ModuleSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    sources: where its inputs come from. A number below 0 counts back from this layer (-1 is the layer
    before); any other number is the index of a layer.
    """

    module: ModuleSpec
    sources: tuple[int, ...] = (-1,)


Architecture: TypeAlias = tuple[Layer, ...]


def kinds_of(architecture: Architecture) -> set[str]:
    """Return the kinds of all modules of an architecture, those within others included."""
    return {kind for layer in architecture for kind in _kinds(layer.module)}


def _kinds(spec: ModuleSpec) -> Iterator[str]:
    yield spec.kind
    for child in spec.children.values():
        yield from _kinds(child)
