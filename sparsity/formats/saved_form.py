"""The type of a saved form: a way to read a network and a way to write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SavedForm:
    """One saved form. The suffix of a file selects it.

    read: path -> a Network in evaluation mode, float32, with its batch norms if the file has them. A form
    that is only run, such as ONNX, gives an OnnxNetwork. Raises InputError for a file that cannot be used.
    write: writes a network whose floats are rounded to half precision, completely or not at all. Raises
    InputError if the network cannot be written.
    packages: packages that write and read need besides the core packages.
    trainable: whether the network that read returns can be pruned and trained.
    """

    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None]
    packages: tuple[str, ...] = ()
    trainable: bool = True
