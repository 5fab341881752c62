"""The rows of a comparison: one for each technique in each engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

REFERENCES = ("dense", "fuse")
"""The techniques that keep the dense network as it is, the best reference first."""


def reference_index(techniques: Sequence[str]) -> int | None:
    """Return the index of the row that the others are compared with; None if there is none.

    techniques: of the rows. The row is the first one of the first technique of REFERENCES that is there.
    """
    return next((techniques.index(name) for name in REFERENCES if name in techniques), None)


@dataclass(frozen=True)
class ComparedRow:
    """One technique in one engine.

    AP, AP50: of the file, validated in the engine. latency_*: milliseconds for a batch of one: the median,
    and the 10th and 90th percentile. All rows take turns. peak_memory_mb: the largest resident size of the
    validating process, in 1e6 bytes. file: the file's name. file_mb: its size, in 1e6 bytes. parameters,
    gflops: zeros are included. sparsity: zeros of the convolutions' weights, as a fraction. seconds: the time
    to make the file, with the validation that is part of val_sparse.py --save. commands: those that made and
    validated it. head: the branch of a YOLO26's head that was counted; "" for other networks.
    path: the file, as the commands name it. made_by: the commands that make it, as one line for a shell; ""
    for the checkpoint itself. AP_change_low, AP_change_high: the 95% interval of AP minus that of the
    reference row over resampled images; None if nothing was resampled.
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
    path: str = ""
    made_by: str = ""
    AP_change_low: float | None = None
    AP_change_high: float | None = None
