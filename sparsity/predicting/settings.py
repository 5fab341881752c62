"""The settings of a prediction. Importing this does not import torch, so --help is fast."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.engines.table import TORCH
from sparsity.validation.settings import ValidationSettings


@dataclass(frozen=True)
class PredictionSettings:
    """How objects are detected in pictures. The thresholds are those of YOLOv5's detect.py.

    imgsz: the longer side of a picture in the network, in pixels, rounded up to a multiple of its largest
    stride. conf_thres: the minimum confidence of a detection. iou_thres: NMS suppresses boxes above this IoU.
    max_det: the maximum number of detections in a picture. classes: those that are detected, by number or by
    name; () for all. agnostic_nms: whether a box can suppress one of another class.
    device, half, engine: as in ValidationSettings.
    Raises InputError for a value out of range, and where the engine does not support device or half.
    """

    imgsz: int = 640
    conf_thres: float = 0.25
    iou_thres: float = 0.45
    max_det: int = 1000
    classes: tuple[int | str, ...] = ()
    agnostic_nms: bool = False
    device: str = ""
    half: bool = False
    engine: str = TORCH

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        self.as_validation()

    def as_validation(self) -> ValidationSettings:
        """Return the settings of a validation that finds the same boxes. Its batches are single images."""
        return ValidationSettings(
            imgsz=self.imgsz,
            batch_size=1,
            conf_thres=self.conf_thres,
            iou_thres=self.iou_thres,
            max_det=self.max_det,
            device=self.device,
            half=self.half,
            engine=self.engine,
        )

    def class_numbers(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Return the numbers of the chosen classes. names: the network's. Raises InputError for another."""
        return tuple(sorted({_number(one, names) for one in self.classes}))


def _number(chosen: int | str, names: tuple[str, ...]) -> int:
    if chosen in names:
        return names.index(chosen)
    number = int(chosen) if isinstance(chosen, str) and chosen.isdecimal() else chosen
    if isinstance(number, int) and 0 <= number < len(names):
        return number
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise InputError(
        f"`classes` has {chosen!r}; a number from 0 to {len(names) - 1} is expected, or a name ({some})"
    )
