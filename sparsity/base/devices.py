"""Selection of the device and the precision, and descriptions of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from sparsity.base.errors import InputError


def select_device(wanted: str = "") -> torch.device:
    """Return the device of a name: 'cpu', '0', 'cuda', 'cuda:1' or 'mps'.

    '' gives the first GPU, or the CPU where there is no GPU. Raises InputError where the device does not
    exist.
    """
    name = wanted.strip().lower()
    if not name:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name.isdigit():
        name = f"cuda:{name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"`device` is {wanted!r}; cpu, the number of a GPU (0) or cuda:NUMBER is expected")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"`device` is {wanted!r}, but there are {torch.cuda.device_count()} CUDA devices "
            f"(torch {torch.__version__}); use `device` cpu, or a torch build with CUDA"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"`device` is {wanted!r}, but this machine has no MPS device; use `device` cpu")
    return device


def select_precision(device: torch.device, half: bool) -> torch.dtype:
    """Return the precision to compute with on a device.

    With half, it is float16 on a GPU, and bfloat16 on a CPU that has bfloat16 arithmetic. On any other CPU,
    and without half, it is float32.
    """
    if not half:
        return torch.float32
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has bfloat16 arithmetic (AVX-512 BF16, AMX, or that of ARM)."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def device_name(device: torch.device) -> str:
    """Return the name of the device, such as 'Tesla V100-SXM2-16GB' or 'AMD EPYC, 2 threads'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return name if device.type == "cpu" else f"{device.type} ({name})"


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_environment(device: torch.device, packages: Sequence[str] = ()) -> dict[str, str | int]:
    """Return what figures depend on besides the input: the device and the versions of packages.

    packages: distributions in addition to the core ones, such as those of engines.
    """
    packages = dict.fromkeys(("torch", "numpy", "pycocotools", "opencv-python-headless", *packages))
    return {
        "device": device_name(device),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or "",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: package_version(name) for name in packages},
    }


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work it was given. Call it before reading a clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def package_version(package: str) -> str:
    """Return the installed version of a package, '' where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or os.name
