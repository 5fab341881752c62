"""How to validate. Importing it imports no torch, so that a --help is fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparsity.base.errors import InputError
from sparsity.engines.table import TORCH, is_cpu_only


@dataclass(frozen=True)
class ValidationSettings:
    """How to validate; the defaults are those of the published COCO figures.

    imgsz: the longer side of an image in pixels, rounded up to a multiple of the largest stride.
    batch_size: images that share a shape; part of the result, since padding depends on it.
    batch_size, iou_thres: where None, those with which the network's family validates (see counting).
    device: '', 'cpu', '0', 'cuda:1'. half: float16 on a GPU, bfloat16 on a CPU that has it.
    workers: threads that decode images, at most half as many as there are cores.
    single_cls: count all classes as one. engine: torch, or onnxruntime, openvino or sparse,
    which run in float32 on the CPU alone.
    """

    imgsz: int = 640
    batch_size: int | None = None
    conf_thres: float = 0.001
    iou_thres: float | None = None
    max_det: int = 300
    device: str = ""
    half: bool = False
    workers: int = 8
    single_cls: bool = False
    engine: str = TORCH

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        for name, least in (("imgsz", 32), ("batch_size", 1), ("max_det", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is None and name == "batch_size":
                continue
            if not isinstance(value, int) or value < least:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value!r}; a whole number from {least} on is expected")
        for name in ("conf_thres", "iou_thres"):
            value = getattr(self, name)
            if value is None and name == "iou_thres":
                continue
            if not 0 <= value < 1 or math.isnan(value):
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value!r}; at least 0 and less than 1 is expected")
        if is_cpu_only(self.engine):
            self._take_the_cpu()

    def _take_the_cpu(self) -> None:
        if self.half or self.device.strip().lower() not in ("", "cpu"):
            asked = "--half" if self.half else f"--device {self.device}"
            raise InputError(f"--engine {self.engine} computes in float32 on the CPU; leave {asked} out")
        object.__setattr__(self, "device", "cpu")


def comparable(settings: ValidationSettings, engines: Sequence[str]) -> ValidationSettings:
    """Return the settings with which the figures of these engines compare.

    Where an engine runs on the CPU alone, all of them run there, in float32. Raises InputError where the
    settings ask for another device or precision, or for an unknown engine.
    """
    cpu_only = [name for name in engines if is_cpu_only(name)]
    return replace(settings, engine=cpu_only[0]) if cpu_only else settings
