"""The .pt form of a network's family, which the family's own tools can open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from sparsity.formats import ultralytics_pt, yolov5_pt
from sparsity.formats.checkpoint import build_network
from sparsity.formats.pt_reader import read_checkpoint
from sparsity.formats.saved_form import SavedForm
from sparsity.yolo.network import Network

WRITERS: Mapping[str, ModuleType] = {
    "yolov5": yolov5_pt,
    **dict.fromkeys(("yolov8", "yolo26", "yolo26_one2one"), ultralytics_pt),
}
"""Key of a dialect -> the module that writes its .pt (see yolo.families)."""


def read(path: Path) -> Network:
    """Read a published checkpoint, as pt_reader.read_checkpoint does."""
    return build_network(read_checkpoint(path))


def write(network: Network, path: Path) -> None:
    """Write the file, completely or not at all. Raises InputError as the family's write does."""
    WRITERS[network.dialect].write(network, path)


def encode(network: Network) -> memoryview:
    """Return the content of the file that write makes."""
    return WRITERS[network.dialect].encode(network)


FORM = SavedForm(read, write)
