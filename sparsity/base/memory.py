"""Free memory, peak memory, and errors for lack of memory."""

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
"""The files with a container's memory limit and memory use: cgroup v2 and v1."""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""The unit of ru_maxrss, in bytes."""
UNKNOWN = 2 * 2**30
"""The free memory that is assumed where the system does not report it, in bytes."""
_NOT_ENOUGH = (
    *("can't allocate memory", "not enough memory"),
    *("could not create a primitive", "could not execute a primitive"),
)
"""Phrases in errors of torch: its CPU allocator's on Linux and macOS, and on Windows; oneDNN's."""


def free_memory(device: torch.device) -> int:
    """Return the free memory of the device in bytes: of a GPU, or else of the system or the container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_free_of_system(), *_free_of_containers()])


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error, such as one of torch, means that the memory of a GPU or the system was not enough."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _NOT_ENOUGH)


def peak_memory() -> int:
    """Return the largest memory that this process has held, in bytes. Not available on Windows.

    On Linux, rusage can include the peak of the parent process. /proc/self/status does not.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    resource = import_module("resource")  # imported here, because Windows does not have it
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
            continue  # The file is missing, or it holds "max": there is no limit.
    return free
