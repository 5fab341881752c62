"""What a saved form of a network is: a way to read it and a way to write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SavedForm:
    """One form, known by the suffix of its files.

    read: path -> a Network in evaluation mode, float32, with its batch norms where the file has them; a form
    that is only run, such as ONNX, gives an OnnxNetwork. Raises InputError for a file that can't be used.
    write: writes a network whose floats are rounded to half precision, whole or not at all. Raises InputError
    where it can't be written.
    packages: what write and read need beside the core packages.
    trainable: whether what read gives can be pruned and trained.
    """

    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None]
    packages: tuple[str, ...] = ()
    trainable: bool = True
