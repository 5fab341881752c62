"""Arrays that are aligned to a cache line."""

from __future__ import annotations

import numpy as np

CACHE_LINE = 64
"""Bytes in a cache line."""
LINE_FLOATS, LINE_LONGS = CACHE_LINE // 4, CACHE_LINE // 8
"""Number of float32 and of int64 values in a cache line."""


def aligned_zeros(count: int, kind: type = np.float32) -> np.ndarray:
    """Return zeros [count] of a kind of 4 bytes; the first one is at the beginning of a cache line."""
    padded = np.zeros(count + LINE_FLOATS, kind)
    skipped = -padded.ctypes.data % CACHE_LINE // 4
    return padded[skipped : skipped + count]
