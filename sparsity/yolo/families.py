"""The families of detectors: which there are, and where each one's tables and modules are.

A family is a file of blocks and a head (both known to registry.KINDS), a table of architectures and a table
of the class names that its published checkpoints hold. What else depends on it has one place a room, by
the key that its head carries: formats.pt, counting and training.lessons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sparsity.yolo import architectures, published
from sparsity.yolo.detect import Detect
from sparsity.yolo.head import Head
from sparsity.yolo.spec import Architecture
from sparsity.yolo.yolov8 import architectures as yolov8_architectures
from sparsity.yolo.yolov8 import published as yolov8_published
from sparsity.yolo.yolov8.detect import AnchorFreeDetect


@dataclass(frozen=True)
class Family:
    """name: as its users write it. sizes: the names that architecture takes, with a number of classes."""

    name: str
    head: type[Head]
    sizes: Mapping[str, object]
    architecture: Callable[[str, int], Architecture]


FAMILIES: Mapping[str, Family] = {
    "yolov5": Family("YOLOv5", Detect, architectures.SCALES, architectures.yolov5),
    "yolov8": Family("YOLOv8", AnchorFreeDetect, yolov8_architectures.SCALES, yolov8_architectures.yolov8),
}
CLASS_NAMES = published.CLASS_NAMES | yolov8_published.CLASS_NAMES
"""(module, name) as any family's checkpoints name it -> a key of registry.KINDS, or Model."""
FIXED = yolov8_published.FIXED
"""Kind -> attributes that must be so where a checkpoint stores them."""
OTHER_TASKS = published.OTHER_TASKS | yolov8_published.OTHER_TASKS
"""Globals by which a checkpoint that is not for us can be told, and what to call it."""


def sizes() -> list[str]:
    """The names of all published architectures."""
    return [name for family in FAMILIES.values() for name in family.sizes]


def published_architecture(name: str, nc: int) -> Architecture:
    """The architecture of that name for nc classes. Raises KeyError for another name."""
    for family in FAMILIES.values():
        if name in family.sizes:
            return family.architecture(name, nc)
    raise KeyError(name)


def family_by_output(dims: Sequence[int], nc: int) -> str | None:
    """The key of the family whose heads decode to so many numbers for nc classes; None for none.

    dims: of the output, 0 where unknown; with an unknown last one it is taken for the first family's.
    """
    if len(dims) != 3:
        return None
    for key, family in FAMILIES.items():
        if dims[3 - family.head.cells_dim] == family.head.cell_numbers(nc):
            return key
    return None if dims[2] else next(iter(FAMILIES))
