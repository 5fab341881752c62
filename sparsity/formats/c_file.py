"""Networks as C code: a .c file, and its header beside it. It is written only."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NoReturn

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes
from sparsity.base.optional import optional_module
from sparsity.c_engine.cpus import IMGSZ, THIS
from sparsity.formats.saved_form import SavedForm
from sparsity.yolo.network import Network

SUFFIX = ".c"


def write(network: Network, path: Path, imgsz: int | tuple[int, int] = IMGSZ, target: str = THIS) -> None:
    """Write the .c file and its header, each completely or not at all.

    imgsz: pixels of a side of the images, or height and width. target: the CPU that the code is tuned for.
    Raises InputError where the network can't be written as C code (see c_engine.source.write_source).
    """
    optional_module("numba", str(path))
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    source = import_module("sparsity.c_engine.source").write_source(network, path.stem, height, width, target)
    write_bytes(path, source.code.encode())
    write_bytes(path.with_suffix(".h"), source.header.encode())


def read(path: Path) -> NoReturn:
    """Raise InputError: C code is not read."""
    raise InputError(f"{path}: C code is not read; give the .pt or .safetensors that it was made from")


FORM = SavedForm(read, write, packages=("numba",))
