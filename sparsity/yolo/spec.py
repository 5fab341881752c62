"""A network's architecture as plain data: a tree of modules, and the routes between its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Value: TypeAlias = "int | float | bool | str | tuple[Value, ...] | None"


@dataclass(frozen=True)
class ModuleSpec:
    """One module: its kind (a key of registry.KINDS), the values and the modules it is made with."""

    kind: str
    attributes: dict[str, Value] = field(default_factory=dict)
    children: dict[str, ModuleSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One layer of a network and where its input comes from: -1 the layer before, else an index."""

    module: ModuleSpec
    sources: tuple[int, ...] = (-1,)


Architecture: TypeAlias = tuple[Layer, ...]
