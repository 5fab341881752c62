"""The types that describe a family of detectors, and a dialect, which several families can share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sparsity.yolo.head import Head
from sparsity.yolo.kind import Kind
from sparsity.yolo.spec import Architecture

ChooseKind: TypeAlias = "Callable[[Collection[str], Mapping[str, Any]], str]"
"""Names of a stored module's submodules, and its attributes -> its kind. Raises ValueError with a reason."""


@dataclass(frozen=True)
class Dialect:
    """What all networks with the same head have in common, whatever their architecture.

    The head names its dialect by the key. Other packages have tables by that key: how validation counts
    (validation.counting), how networks are trained (training.lessons), and the published form of checkpoints
    (formats.pt). A test checks that every dialect is in these tables.

    name: as users write it. head: the class of the last layer.
    """

    key: str
    name: str
    head: type[Head]


@dataclass(frozen=True)
class Family:
    """One family: its architectures, its blocks, and the class names in its published checkpoints.

    name: as users write it. dialects: of its heads. Several families can share one.
    sizes: the names that architecture accepts, together with a number of classes.
    kinds: the kinds of module that the family adds.
    class_names: (module, name) as pickled -> a kind, "Model" for the whole network, or a key of choices.
    choices: class names that several kinds share -> the function that chooses the kind by the module's
    content.
    other_tasks: globals that occur only in unsupported checkpoints -> what to call such a checkpoint.
    """

    key: str
    name: str
    dialects: tuple[Dialect, ...]
    sizes: Mapping[str, object]
    architecture: Callable[[str, int], Architecture]
    kinds: Mapping[str, Kind]
    class_names: Mapping[tuple[str, str], str]
    choices: Mapping[str, ChooseKind] = field(default_factory=dict)
    other_tasks: Mapping[str, str] = field(default_factory=dict)
