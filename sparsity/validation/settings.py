"""The settings of a validation. Importing this does not import torch, so --help is fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparsity.base.errors import InputError
from sparsity.engines.table import TORCH, is_cpu_only


@dataclass(frozen=True)
class ValidationSettings:
    """The settings of a validation. The defaults are those of the published COCO figures.

    imgsz: the longer side of an image in pixels, rounded up to a multiple of the largest stride.
    batch_size: images in a batch, which are padded to one shape. It changes AP, since padding depends on it.
    iou_thres: NMS suppresses boxes above this IoU.
    batch_size, iou_thres: None for the defaults of the network's family (see counting).
    conf_thres: the minimum confidence of a detection. max_det: the maximum number of detections per image.
    device: '', 'cpu', '0', 'cuda:1'. half: compute in float16 on a GPU, in bfloat16 on a CPU that has it.
    workers: threads that decode images, limited to half of the usable cores.
    single_cls: count all classes as one.
    engine: torch, onnxruntime, openvino or sparse. All but torch compute in float32, on the CPU only.
    Raises InputError for a value out of range, and where the engine does not support device or half.
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
                raise InputError(f"`{name}` is {value!r}; a whole number from {least} on is expected")
        for name in ("conf_thres", "iou_thres"):
            value = getattr(self, name)
            if value is None and name == "iou_thres":
                continue
            if not 0 <= value < 1 or math.isnan(value):
                raise InputError(f"`{name}` is {value!r}; at least 0 and less than 1 is expected")
        if is_cpu_only(self.engine):
            self._require_cpu()

    def _require_cpu(self) -> None:
        if self.half or self.device.strip().lower() not in ("", "cpu"):
            refused = "`half`" if self.half else f"`device` {self.device}"
            raise InputError(f"`engine` {self.engine} computes in float32 on the CPU; leave {refused} out")
        object.__setattr__(self, "device", "cpu")


def comparable(settings: ValidationSettings, engines: Sequence[str]) -> ValidationSettings:
    """Return settings with which the figures of these engines are comparable.

    If any of the engines runs on the CPU only, all of them run on the CPU, in float32. Raises InputError
    where the settings then request another device or precision, and for an unknown engine.
    """
    cpu_only = [name for name in engines if is_cpu_only(name)]
    return replace(settings, engine=cpu_only[0]) if cpu_only else settings
