"""Arrays that are aligned to a cache line."""

from __future__ import annotations

import numpy as np

CACHE_LINE = 64
"""Bytes in a cache line."""
LINE_FLOATS, LINE_LONGS = CACHE_LINE // 4, CACHE_LINE // 8
"""Number of float32 and of int64 values in a cache line."""


def aligned_zeros(floats: int) -> np.ndarray:
    """Return float32 zeros [floats]; the first one is at the beginning of a cache line."""
    padded = np.zeros(floats + LINE_FLOATS, np.float32)
    skipped = -padded.ctypes.data % CACHE_LINE // 4
    return padded[skipped : skipped + floats]
