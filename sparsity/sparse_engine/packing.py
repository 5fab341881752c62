"""Packings: how many channels share each 32-bit number of an arena, and as what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import types

ZERO_POINT = 24
"""The byte that stands for 0, in all maps. 231 bytes are above it and 24 below: SiLU gives -0.28 or more."""
LARGEST = 255


@dataclass(frozen=True)
class Packing:
    """A kind of arena.

    name: of the number type. share: channels in each 32-bit number. arena: the NumPy type of the array. It
    tells the kinds apart when the kernels are compiled, and nothing else.
    """

    name: str
    share: int
    arena: type


FLOAT32 = Packing("float32", 1, np.float32)
BFLOAT16 = Packing("bfloat16", 2, np.int32)
INT8 = Packing("int8", 4, np.uint32)
PACKINGS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.int8: INT8}
"""The data type of maps and weights -> its packing."""


def packing_of(memory: types.Array) -> Packing:
    """Return the packing of an arena, from its type in a kernel."""
    found = {types.float32: FLOAT32, types.int32: BFLOAT16, types.uint32: INT8}
    return found[memory.dtype]
