"""The machines that C code is tuned for, and the vector widths that it holds."""

from __future__ import annotations

from collections.abc import Mapping

from sparsity.base.errors import InputError
from sparsity.c_engine.cpus import CPUS, THIS, Cpu
from sparsity.sparse_engine.machine import LARGE, LARGE_DENSE, MACHINE, SMALL, SMALL_DENSE, Machine

WIDTHS = (4, 8, 16)
"""The numbers of lanes that a file holds steps for. The compiler's target chooses one of them."""


def _machine(name: str, cpu: Cpu) -> Machine:
    tiles = (LARGE, LARGE_DENSE) if cpu.registers == 32 else (SMALL, SMALL_DENSE)
    return Machine(name, cpu.lanes, True, False, False, *tiles)


TARGETS: Mapping[str, Machine] = {name: _machine(name, cpu) for name, cpu in CPUS.items()}
"""Name of a CPU -> its vectors and tiles."""


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
