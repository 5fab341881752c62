"""A kind of module: how it is made, and which attributes a checkpoint can store for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from sparsity.yolo.spec import Value


@dataclass(frozen=True)
class Kind:
    """One kind of module: make(**attributes, **children).

    attributes: what make takes besides the submodules. A checkpoint must store each of them.
    defaults: attributes that make takes too, but that older files lack -> their values in such files.
    present: attributes that say whether the module has a parameter -> the name of the parameter.
    fixed: attributes that change what the module computes -> the values that are supported here. A checkpoint
    can store one of these values. Any other value is refused.
    notes: attributes that have no effect on what is computed here. A checkpoint can store them.
    Any other attribute of a stored module is refused, by name.
    whole: whether the module makes its submodules itself.
    """

    make: Callable[..., nn.Module]
    attributes: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    present: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    fixed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def all_attributes(self) -> tuple[str, ...]:
        """All attributes that make takes besides the submodules."""
        return (*self.attributes, *self.defaults, *self.present)
