"""Which speedups are beyond the spread of the measurements. Tables, pages and findings use the same rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_faster(row: Mapping[str, Any], size: int) -> bool:
    """Whether a level's 90th percentile is below the 10th of the dense network that took turns with it."""
    return bool(row[f"latency_p90_ms_b{size}"] < row[f"latency_dense_p10_ms_b{size}"])


def is_slower(row: Mapping[str, Any], size: int) -> bool:
    """Whether a level's 10th percentile is above the 90th of the dense network that took turns with it."""
    return bool(row[f"latency_p10_ms_b{size}"] > row[f"latency_dense_p90_ms_b{size}"])


def is_beyond_noise(row: Mapping[str, Any], size: int) -> bool:
    """Whether the spreads of a level's and the dense network's latency do not overlap."""
    return is_faster(row, size) or is_slower(row, size)
