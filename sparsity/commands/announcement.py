"""The first lines that a command prints: its flags, where it runs, and a flag without its full effect."""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Callable, Mapping

import torch

from sparsity.base.devices import device_name, select_device, select_precision
from sparsity.formats.training_arguments import IMGSZ
from sparsity.validation.counting import Counting
from sparsity.validation.settings import ValidationSettings


def announce(
    script: str,
    args: Namespace,
    settings: ValidationSettings,
    tell: Callable[[str], object] = print,
    *,
    processes: int = 1,
) -> None:
    """Print the flags of a command, and the versions, device, precision and number of processes."""
    tell(f"{script}: " + ", ".join(f"{key}={value}" for key, value in vars(args).items()))
    tell(_format_environment(settings, processes) + "\n")


def warn_of_max_det(counting: Counting, max_det: int, tell: Callable[[str], object] = print) -> None:
    """Print a warning where --max-det is more than the head gives."""
    if counting.most and max_det > counting.most:
        tell(
            f"WARNING: --max-det is {max_det}, but the head {counting.head} gives at most {counting.most} "
            "detections for an image"
        )


def warn_of_trained_size(
    trained_with: Mapping[str, float], imgsz: int, tell: Callable[[str], object] = print
) -> None:
    """Print a warning where a checkpoint tells that it was trained at another size than the asked imgsz."""
    trained = trained_with.get(IMGSZ, imgsz)
    if trained != imgsz:
        tell(
            f"WARNING: the image size is {imgsz} pixels, but the checkpoint was trained at {trained:g}; "
            f"--imgsz {trained:g} can give other figures"
        )


def _format_environment(settings: ValidationSettings, processes: int) -> str:
    """Return versions, device, precision and the number of processes, where there are several.

    Where --half has no effect, a warning follows.
    """
    device = select_device(settings.device)
    dtype = select_precision(device, settings.half)
    line = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{device} ({device_name(device)}), {str(dtype).removeprefix('torch.')}"
    ) + (f", {processes} processes" if processes > 1 else "")
    if settings.half and dtype == torch.float32:
        line += "\nWARNING: --half has no effect: this CPU has no bfloat16 arithmetic"
    return line
