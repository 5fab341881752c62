"""The .pt of a network's family, which that family's own tools open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from sparsity.formats import yolov5_pt, yolov8_pt
from sparsity.yolo.network import Network

FORMS: Mapping[str, ModuleType] = {"yolov5": yolov5_pt, "yolov8": yolov8_pt}
"""By the key of the family (see yolo.families)."""


def write(network: Network, path: Path) -> None:
    """Write the file, whole or not at all. Raises InputError as the family's write does."""
    FORMS[network.family].write(network, path)


def encode(network: Network) -> memoryview:
    """The content of the file that write makes, in memory."""
    return FORMS[network.family].encode(network)
