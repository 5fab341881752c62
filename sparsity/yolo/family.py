"""What a family of detectors is, and what several families may share: a dialect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sparsity.yolo.head import Head
from sparsity.yolo.kind import Kind
from sparsity.yolo.spec import Architecture

ChooseKind: TypeAlias = "Callable[[Collection[str], Mapping[str, Any]], str]"
"""Names of a stored module's submodules, and its attributes -> its kind, or a ValueError with a reason."""


@dataclass(frozen=True)
class Dialect:
    """What networks that end in the same head share, whatever their architecture.

    The head names its dialect by the key. Other rooms keep what follows from it in a table of their own, by
    that key: how validation counts (validation.counting), how networks learn (training.lessons), and the
    published form of their checkpoints (formats.pt). A test holds that no table lacks a dialect.

    name: as its users write it. head: the class of the last layer.
    """

    key: str
    name: str
    head: type[Head]


@dataclass(frozen=True)
class Family:
    """One family: its architectures, its blocks, and the names in its published checkpoints.

    sizes: the names that architecture takes, with a number of classes. kinds: of module, that it adds.
    class_names: (module, name) as pickled -> a kind, "Model" for the whole, or a key of choices.
    choices: names for which what a module holds decides the kind.
    other_tasks: globals by which a checkpoint that is not for detection is known -> what to call it.
    """

    key: str
    dialect: Dialect
    sizes: Mapping[str, object]
    architecture: Callable[[str, int], Architecture]
    kinds: Mapping[str, Kind]
    class_names: Mapping[tuple[str, str], str]
    choices: Mapping[str, ChooseKind] = field(default_factory=dict)
    other_tasks: Mapping[str, str] = field(default_factory=dict)
