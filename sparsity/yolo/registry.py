"""The kinds of module that an architecture can name: torch's, the shared ones, and each family's own."""

from __future__ import annotations

from torch import nn

from sparsity.yolo import blocks, torch_kinds
from sparsity.yolo.families import FAMILIES
from sparsity.yolo.head import Head
from sparsity.yolo.kind import Kind
from sparsity.yolo.spec import ModuleSpec

KINDS: dict[str, Kind] = torch_kinds.KINDS | blocks.KINDS
for _family in FAMILIES.values():
    KINDS |= _family.kinds
HEADS: dict[str, type[Head]] = {
    name: kind.make
    for name, kind in KINDS.items()
    if isinstance(kind.make, type) and issubclass(kind.make, Head)
}
"""The kinds that a network can end in."""


def build_module(spec: ModuleSpec) -> nn.Module:
    """Build the module that spec describes, children first."""
    children = {name: build_module(child) for name, child in spec.children.items()}
    return KINDS[spec.kind].make(**spec.attributes, **children)
