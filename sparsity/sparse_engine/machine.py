"""The vector width of the CPU, and the tile shapes that fit into its registers."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm
import numba

from sparsity.base.errors import InputError

LANES_VARIABLE = "SPARSITY_ENGINE_LANES"
"""The environment variable that sets the number of lanes: 4, 8 or 16.

It works on any CPU: LLVM splits vectors that are too wide for it.
"""
SMALL = (
    (1, 1),
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 5),
    (2, 4),
    (1, 7),
    (2, 5),
    (1, 10),
    (2, 6),
    (3, 4),
    (1, 13),
    (2, 7),
)
LARGE = (
    *((1, 1), (1, 2), (1, 3), (1, 5), (2, 4), (2, 5), (1, 10), (3, 4), (3, 5), (1, 14)),
    *((2, 10), (4, 5), (1, 20), (3, 7), (5, 5), (3, 8), (1, 25)),
)


SMALL_DENSE = ((1, 6, 2), (2, 3, 2), (1, 4, 3), (2, 2, 3), (1, 2, 4))
LARGE_DENSE = ((1, 6, 4), (2, 3, 4), (1, 8, 3), (2, 4, 3), (1, 5, 5), (1, 12, 2), (2, 6, 2))


@dataclass(frozen=True)
class Machine:
    """A CPU.

    name: LLVM's name for it. lanes: float32 numbers in a vector. fma: whether it has a fused multiply-add.
    bfloat16: whether it has dot products of pairs of bfloat16 (AVX512_BF16). int8: whether it has those of
    four bytes (VNNI).
    tiles: (rows, columns) of vectors that fit into its registers, with one register left for a weight.
    dense_tiles: (rows, columns, outputs computed together), for layers with too few zeros.
    """

    name: str
    lanes: int
    fma: bool
    bfloat16: bool
    int8: bool
    tiles: tuple[tuple[int, int], ...]
    dense_tiles: tuple[tuple[int, int, int], ...]

    def dense_tiles_of(self, share: int) -> tuple[tuple[int, int, int], ...]:
        """Return the dense tiles for maps in which this many channels share a number (see packing)."""
        return tuple(tile for tile in self.dense_tiles if max(tile[2], share) % min(tile[2], share) == 0)


def this_machine() -> Machine:
    """Return this CPU, from LLVM. Raises InputError if SPARSITY_ENGINE_LANES is not 4, 8 or 16."""
    features = _features()
    arm = platform.machine().lower() in ("arm64", "aarch64")
    wide, fused = features.get("avx512f", False), features.get("fma", False) or arm
    lanes = _requested_lanes() or (16 if wide else 8 if features.get("avx2", False) else 4)
    many = arm or lanes == 16
    tiles = (LARGE, LARGE_DENSE) if many else (SMALL, SMALL_DENSE)
    name = numba.config.CPU_NAME or llvm.get_host_cpu_name()
    halves, octets = features.get("avx512bf16", False), features.get("avx512vnni", False)
    return Machine(name, lanes, fused, halves, octets, *tiles)


def _features() -> Mapping[str, bool]:
    """Return the features of this CPU, or of the one that NUMBA_CPU_NAME sets as the target."""
    if not numba.config.CPU_NAME:
        return llvm.get_host_cpu_features()
    requested = (numba.config.CPU_FEATURES or "").split(",")
    return {feature[1:]: feature[0] == "+" for feature in requested if feature}


def _requested_lanes() -> int | None:
    requested = os.environ.get(LANES_VARIABLE)
    if requested is None:
        return None
    if requested not in ("4", "8", "16"):
        raise InputError(f"{LANES_VARIABLE} is {requested!r}; 4, 8 or 16 is expected")
    return int(requested)


MACHINE = this_machine()
"""The CPU that the kernels are compiled for."""
GRIDS_OF = {4: ((2, 2), (1, 4), (4, 1)), 8: ((4, 2), (2, 4)), 16: ((4, 4), (8, 2), (2, 8))}
"""Number of lanes -> the possible grids: rows and columns of blocks, one block per lane."""
GRIDS = GRIDS_OF[MACHINE.lanes]
"""The possible grids of this machine."""
OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
"""numba's options for every function of the kernels."""
