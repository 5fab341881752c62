"""Reads the C files of this folder, and writes numbers, texts and names as C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import resources

import numpy as np

PER_LINE = 12


def template(file: str) -> str:
    """Return the text of a C file of this folder, whose names begin with NAME_."""
    return resources.files("sparsity.c_engine").joinpath(file).read_text("utf-8")


def identifier(stem: str) -> str:
    """Return a C identifier for the name of a file: letters, digits and _, not beginning with a digit."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII).strip("_") or "network"
    return f"net_{name}" if name[0].isdigit() else name


def words(numbers: np.ndarray) -> str:
    """Return the bits of float32 numbers as the elements of an array of uint32_t."""
    digits = np.ascontiguousarray(numbers, np.float32).view(np.uint32).astype(">u4").tobytes().hex()
    return _lines([f"0x{digits[i : i + 8]}" for i in range(0, len(digits), 8)])


def whole(numbers: np.ndarray) -> str:
    """Return whole numbers as the elements of an array."""
    return _lines(list(map(str, numbers.tolist())))


def quoted(text: str) -> str:
    """Return a text as a C string: ASCII, with other bytes of its UTF-8 as octal numbers."""
    safe = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in safe else f"\\{byte:03o}" for byte in text.encode()) + '"'


def initialised(fields: Iterable[tuple[str, object]]) -> str:
    """Return {.name = value, ...}. Fields that are None or 0 are left out."""
    return "{" + ", ".join(f".{name} = {value}" for name, value in fields if value not in (None, 0)) + "}"


def _lines(elements: Sequence[str]) -> str:
    rows = [", ".join(elements[i : i + PER_LINE]) for i in range(0, len(elements), PER_LINE)]
    return ",\n".join(f"    {row}" for row in rows)
