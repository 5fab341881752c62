"""What a comparison gives: a row for each technique in each engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComparedRow:
    """One technique in one engine.

    AP, AP50: of the file, validated by it. latency_*: milliseconds of a batch of one, by turns with all
    other rows: median, 10th and 90th percentile. peak_memory_mb: the largest resident size of the process
    that validated. file: its name, file_mb its size (1e6 bytes). parameters, gflops: those that are
    computed with, zeros and all. seconds: of making it, with the validation that val_sparse.py --save brings.
    commands: that made and validated it.
    """

    technique: str
    engine: str
    AP: float
    AP50: float
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    peak_memory_mb: float
    file: str
    file_mb: float
    parameters: int
    gflops: float
    sparsity: float
    seconds: float
    note: str
    commands: str
