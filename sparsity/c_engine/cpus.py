"""The CPUs that C code can be tuned for without running on them. Importing this imports no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMGSZ = 640
"""Height and width of the images where none are given."""
THIS = "this"
"""The target that is the machine at hand: its choices are measured."""


@dataclass(frozen=True)
class Cpu:
    """A kind of CPU. lanes: float32 numbers in a vector. registers: the number of its vector registers."""

    lanes: int
    registers: int


CPUS: Mapping[str, Cpu] = {
    "cortex-a53": Cpu(4, 32),
    "cortex-a72": Cpu(4, 32),
    "cortex-a76": Cpu(4, 32),
    "riscv64": Cpu(4, 32),
    "x86-64-v2": Cpu(4, 16),
    "x86-64-v3": Cpu(8, 16),
    "x86-64-v4": Cpu(16, 32),
}
"""Name of a CPU -> its vectors. Choices for it are estimated."""
