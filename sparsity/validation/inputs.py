"""Adapts settings and images to a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import TypeAlias

from torch import Tensor

from sparsity.base.arguments import require_kind, require_location, require_network
from sparsity.base.devices import select_device, usable_cores
from sparsity.data import calibration
from sparsity.data.dataset import Dataset, DatasetImage, read_dataset
from sparsity.data.loader import BatchLoader
from sparsity.data.sources import Split
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.validation.counting import counting_of
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network

Detectable: TypeAlias = "Network | OnnxNetwork"
"""A network that can be validated. An ONNX file needs an engine that runs such files."""


def fit(settings: ValidationSettings, network: Detectable) -> ValidationSettings:
    """Return the settings adapted to the network.

    imgsz is rounded up to a multiple of the network's largest stride. batch_size and iou_thres, where None,
    become the defaults of the network's family. Raises InputError for arguments of other kinds.
    """
    require_network(network, Network | OnnxNetwork)
    require_kind(settings, ValidationSettings, "settings", "a ValidationSettings")
    stride, family = network.largest_stride, counting_of(network)
    return replace(
        settings,
        imgsz=math.ceil(settings.imgsz / stride) * stride,
        batch_size=family.batch_size if settings.batch_size is None else settings.batch_size,
        iou_thres=family.iou_thres if settings.iou_thres is None else settings.iou_thres,
    )


def make_loader(
    images: Sequence[DatasetImage], network: Detectable, settings: ValidationSettings
) -> BatchLoader:
    """Return the images of a data set in batches. settings: as fit returns them for the network."""
    return BatchLoader(
        images,
        imgsz=settings.imgsz,
        batch_size=settings.batch_size,
        stride=network.largest_stride,
        workers=decoding_threads(settings.workers),
        resizing=counting_of(network).resizing,
        pinned=select_device(settings.device).type == "cuda",
    )


def read_data(
    data: str | PathLike[str],
    network: Detectable,
    settings: ValidationSettings,
    *,
    split: Split = "val",
    ignore_names: bool = False,
    progress: bool = False,
) -> Dataset:
    """Read a data set for a network, with its class names and the label tolerance of its family.

    The other arguments, and the errors, are those of data.dataset.read_dataset.
    """
    return read_dataset(
        data,
        network.names,
        single_cls=settings.single_cls,
        split=split,
        tolerance=counting_of(network).tolerance,
        ignore_names=ignore_names,
        progress=progress,
    )


def decoding_threads(workers: int) -> int:
    """Return the number of threads that decode images: workers, but at most half of the usable cores."""
    return min(workers, max(1, usable_cores() // 2))


def read_calibration(
    folder: str | PathLike[str],
    count: int,
    *,
    network: Detectable,
    imgsz: int,
    seed: int = 0,
    workers: int = 0,
) -> list[Tensor]:
    """Choose count images of a folder at random, and read them as in a validation of the network.

    network: its family determines how images are resized, and its largest stride how they are padded.
    seed: of the random choice. workers: the number of threads that decode.
    Returns batches of images of similar shapes: float32 [n, 3, height, width] in 0 to 1, RGB, channels_last.
    Raises InputError where no image can be used, count is less than 1 or seed is negative.
    """
    require_network(network, Network | OnnxNetwork)
    require_location(folder, "calibration")
    return calibration.read_images(
        folder,
        count,
        imgsz=imgsz,
        stride=network.largest_stride,
        resizing=counting_of(network).resizing,
        seed=seed,
        workers=workers,
    )
