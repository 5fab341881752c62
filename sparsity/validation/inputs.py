"""Settings and images as a network needs them."""

from __future__ import annotations

import math
from dataclasses import replace
from os import PathLike
from typing import TypeAlias

from torch import Tensor

from sparsity.base.devices import usable_cores
from sparsity.data import calibration
from sparsity.data.dataset import Dataset
from sparsity.data.loader import BatchLoader
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.validation.counting import counting_of
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network

Detectable: TypeAlias = "Network | OnnxNetwork"
"""What can be validated: a network, or an ONNX file by an engine that runs it."""


def fit(settings: ValidationSettings, network: Detectable) -> ValidationSettings:
    """The settings as the network needs them.

    imgsz is rounded up to a multiple of its largest stride; what is None is its family's.
    """
    stride, family = max(network.strides), counting_of(network)
    return replace(
        settings,
        imgsz=math.ceil(settings.imgsz / stride) * stride,
        batch_size=family.batch_size if settings.batch_size is None else settings.batch_size,
        iou_thres=family.iou_thres if settings.iou_thres is None else settings.iou_thres,
    )


def make_loader(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> BatchLoader:
    """The data set's images in batches, as the network and the settings (see fit) need them."""
    return BatchLoader(
        dataset.images,
        imgsz=settings.imgsz,
        batch_size=settings.batch_size,
        stride=max(network.strides),
        workers=decoding_threads(settings.workers),
        resizing=counting_of(network).resizing,
    )


def decoding_threads(workers: int) -> int:
    """Return how many threads decode images: workers, but at most half of the cores that may be used."""
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
    """Choose count images of a folder at random, and read them as validation of the network does.

    network: its family decides how images are resized, its largest stride how they are padded.
    Returns batches and raises InputError as data.calibration.read_images does.
    """
    return calibration.read_images(
        folder,
        count,
        imgsz=imgsz,
        stride=max(network.strides),
        resizing=counting_of(network).resizing,
        seed=seed,
        workers=workers,
    )
