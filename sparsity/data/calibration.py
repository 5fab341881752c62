"""Calibration images: images of a folder, without labels, letterboxed as validation does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike

import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.progress import say
from sparsity.data.dataset import DatasetImage, choose_images
from sparsity.data.letterbox import Resizing
from sparsity.data.loader import BatchLoader

BATCH_SIZE = 4
"""Small, so that images of similar shapes share a batch and little of it is padding."""


def read_images(
    folder: str | PathLike[str],
    count: int,
    *,
    imgsz: int,
    stride: int,
    resizing: Resizing,
    seed: int = 0,
    workers: int = 0,
    say: Callable[[str], None] = say,
) -> list[Tensor]:
    """Choose count images of a folder at random, and read them letterboxed.

    stride: the network's largest. resizing: as the network's family resizes (see validation.counting).
    workers: threads that decode. say: takes a warning where images are skipped, or there are fewer.
    Returns batches of similar shapes: float32 [n, 3, height, width] in 0 to 1, RGB, channels_last.
    Raises InputError where no image can be used, or count is less than 1.
    """
    if count < 1:
        raise InputError(f"--calib-images is {count}; at least 1 image is expected")
    if seed < 0:
        raise InputError(f"--calib-seed is {seed}; a whole number from 0 on is expected")
    try:
        images, problems = choose_images(folder, count, seed=seed)
        if problems:
            say(f"WARNING: --calib: {len(problems)} images are skipped, such as {problems[0]}")
        if len(images) < count:
            say(f"WARNING: --calib {folder}: {count} images are asked for, all {len(images)} in it are used")
        return letterboxed_batches(images, imgsz=imgsz, stride=stride, resizing=resizing, workers=workers)
    except InputError as error:
        raise InputError(f"--calib: {error}") from error


def letterboxed_batches(
    images: Sequence[DatasetImage], *, imgsz: int, stride: int, resizing: Resizing, workers: int = 0
) -> list[Tensor]:
    """Read images into batches, as read_images returns them."""
    loader = BatchLoader(
        images, imgsz=imgsz, batch_size=BATCH_SIZE, stride=stride, workers=workers, resizing=resizing
    )
    return [torch.from_numpy(b.pixels).permute(0, 3, 1, 2).float().div_(255) for b in loader]
