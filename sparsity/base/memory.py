"""How much memory is free or was taken, and errors that say it was not enough (a leaf)."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import torch

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Where a container's limit and use stand, cgroup v2 and v1."""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which rusage counts the size of a process."""
UNKNOWN = 2 * 2**30
"""Taken as free where the system doesn't say."""
_NOT_ENOUGH = ("can't allocate memory", "not enough memory")
"""What torch's allocator of the system's memory says, on Linux and macOS, and on Windows."""


def free_memory(device: torch.device) -> int:
    """Bytes that can still be used on the device: a GPU's own, else the system's or the container's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_free_of_system(), *_free_of_containers()])


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that a GPU's or the system's memory was not enough."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(said in str(error) for said in _NOT_ENOUGH)


def peak_memory() -> int:
    """The most bytes that this process has held. Not on Windows.

    Linux tells it apart from what the process that started this one held; rusage does not.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    resource = import_module("resource")  # here, since Windows has none
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def _free_of_system() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return UNKNOWN


def _free_of_containers() -> list[int]:
    free = []
    for limit, used in _LIMITS:
        try:
            free.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):
            continue  # no such container, or "max": no limit
    return free
