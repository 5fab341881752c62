"""What a kind of module is: how it is made, and what a checkpoint may store of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Kind:
    """One kind of module: make(**attributes, **children).

    attributes: what it is made with, beside its submodules; a checkpoint must store each.
    fixed: attributes that would change what it computes -> the values that make no difference here; a
    checkpoint may store one of them, and is refused with another.
    notes: attributes that change nothing that is computed here; a checkpoint may store them.
    Any other attribute of a stored module is refused by name.
    whole: whether it makes its submodules itself.
    """

    make: Callable[..., nn.Module]
    attributes: tuple[str, ...] = ()
    whole: bool = False
    fixed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
