"""The rows of a comparison: one for each technique in each engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComparedRow:
    """One technique in one engine.

    AP, AP50: of the file, validated in the engine. latency_*: milliseconds for a batch of one: the median,
    and the 10th and 90th percentile. All rows take turns. peak_memory_mb: the largest resident size of the
    validating process, in 1e6 bytes. file: the file's name. file_mb: its size, in 1e6 bytes. parameters,
    gflops: zeros are included. sparsity: zeros of the convolutions' weights, as a fraction. seconds: the time
    to make the file, with the validation that is part of val_sparse.py --save. commands: those that made and
    validated it. head: the branch of a YOLO26's head that was counted; "" for other networks.
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
    head: str = ""
