"""The CPUs that C code can be tuned for without running on them, and the vector widths that it holds."""

from __future__ import annotations

from collections.abc import Mapping

from sparsity.base.errors import InputError
from sparsity.sparse_engine.machine import LARGE, LARGE_DENSE, MACHINE, SMALL, SMALL_DENSE, Machine

WIDTHS = (4, 8, 16)
"""The numbers of lanes that a file holds steps for. The compiler's target chooses one of them."""
THIS = "this"
"""The target that is the machine at hand: its choices are measured."""


def _machine(name: str, lanes: int, *, registers: int) -> Machine:
    tiles = (LARGE, LARGE_DENSE) if registers == 32 else (SMALL, SMALL_DENSE)
    return Machine(name, lanes, True, False, False, *tiles)


TARGETS: Mapping[str, Machine] = {
    one.name: one
    for one in (
        _machine("cortex-a53", 4, registers=32),
        _machine("cortex-a72", 4, registers=32),
        _machine("cortex-a76", 4, registers=32),
        _machine("riscv64", 4, registers=32),
        _machine("x86-64-v2", 4, registers=16),
        _machine("x86-64-v3", 8, registers=16),
        _machine("x86-64-v4", 16, registers=32),
    )
}
"""Name of a CPU -> its vectors and tiles. Choices for it are estimated."""


def machine_of(target: str) -> Machine:
    """Return the machine that a target names. Raises InputError for an unknown name."""
    if target == THIS:
        return MACHINE
    if target not in TARGETS:
        raise InputError(f"`target` is {target!r}; one of {', '.join((THIS, *TARGETS))} is expected")
    return TARGETS[target]


def machine_with(lanes: int, target: Machine) -> Machine:
    """Return the target if it has this many lanes, else a usual CPU with so many."""
    if target.lanes == lanes:
        return target
    return TARGETS[{4: "cortex-a72", 8: "x86-64-v3", 16: "x86-64-v4"}[lanes]]
