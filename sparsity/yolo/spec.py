"""A network's architecture as plain data: a tree of modules, and the connections between the layers."""

from __future__ import annotations

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
