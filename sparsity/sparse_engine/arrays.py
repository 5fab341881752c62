"""Arrays that begin at a cache line (a leaf)."""

from __future__ import annotations

import numpy as np

CACHE_LINE = 64
"""Bytes of a cache line."""
LINE_FLOATS, LINE_LONGS = CACHE_LINE // 4, CACHE_LINE // 8
"""How many float32, int64 a cache line holds."""


def aligned_zeros(floats: int) -> np.ndarray:
    """Float32 zeros, the first at the beginning of a cache line."""
    room = np.zeros(floats + LINE_FLOATS, np.float32)
    skipped = -room.ctypes.data % CACHE_LINE // 4
    return room[skipped : skipped + floats]
