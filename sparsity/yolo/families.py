"""The table of families, and the tables derived from it: dialects, published class names, sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sparsity.yolo.family import ChooseKind, Dialect, Family
from sparsity.yolo.spec import Architecture
from sparsity.yolo.yolo11.family import YOLO11
from sparsity.yolo.yolo12.family import YOLO12
from sparsity.yolo.yolo26.family import YOLO26
from sparsity.yolo.yolov5.family import YOLOV5
from sparsity.yolo.yolov8.family import YOLOV8

FAMILIES: Mapping[str, Family] = {family.key: family for family in (YOLOV5, YOLOV8, YOLO11, YOLO12, YOLO26)}
DIALECTS: Mapping[str, Dialect] = {
    dialect.key: dialect for family in FAMILIES.values() for dialect in family.dialects
}
CLASS_NAMES: dict[tuple[str, str], str] = {}
"""(module, name) of a class in any family's checkpoints -> a kind, "Model", or a key of CHOICES."""
CHOICES: dict[str, ChooseKind] = {}
"""Class names that several kinds share -> the function that chooses the kind by the module's content."""
OTHER_TASKS: dict[str, str] = {}
"""Globals that occur only in unsupported checkpoints -> what to call such a checkpoint."""
for _family in FAMILIES.values():
    CLASS_NAMES |= _family.class_names
    CHOICES |= _family.choices
    OTHER_TASKS |= _family.other_tasks


def family_names(last: str = "or") -> str:
    """Return the names of all families as a text, with this word before the last one."""
    *names, final = (family.name for family in FAMILIES.values())
    return f"{', '.join(names)} {last} {final}"


def family_of(dialect: str, kinds: Collection[str] = ()) -> str:
    """Return the name of the family of a network, as users write it.

    dialect: a key of DIALECTS. kinds: of the network's modules. Where families share the dialect, it is the
    last one that adds one of these kinds; without any, as of an ONNX file, all their names, divided by
    slashes.
    """
    sharing = [family for family in FAMILIES.values() if DIALECTS[dialect] in family.dialects]
    own = [family for family in sharing if family.kinds.keys() & set(kinds)]
    return own[-1].name if own else "/".join(family.name for family in sharing)


def sizes() -> list[str]:
    """Return the names of all published architectures."""
    return [name for family in FAMILIES.values() for name in family.sizes]


def published_architecture(name: str, nc: int) -> Architecture:
    """Return the published architecture of this name for nc classes. Raises KeyError for another name."""
    for family in FAMILIES.values():
        if name in family.sizes:
            return family.architecture(name, nc)
    raise KeyError(name)


def dialect_by_output(dims: Sequence[int], nc: int) -> str | None:
    """Return the key of the dialect whose heads decode to an output of these dimensions for nc classes.

    dims: the output's dimensions, 0 where unknown. Returns None if no dialect fits, or more than one. Those
    of YOLO26 are left out: the outputs of its heads look like those of others.
    """
    if len(dims) != 3:
        return None
    single = {key: dialect for key, dialect in DIALECTS.items() if not dialect.head.kinds}
    numbers = {key: dims[3 - dialect.head.cells_dim] for key, dialect in single.items()}
    fitting = [key for key in numbers if numbers[key] == DIALECTS[key].head.cell_numbers(nc)]
    return fitting[0] if len(fitting) == 1 else None
