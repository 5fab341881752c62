"""Calibration images: images of a folder, without labels, letterboxed as in validation."""

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
"""A small batch holds images of similar shapes, so it needs little padding."""


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
    """Choose count images of a folder at random, and read and letterbox them.

    stride: the network's largest stride. resizing: that of the network's family (see validation.counting).
    workers: the number of threads that decode. say: called with a warning where images are skipped, or the
    folder holds fewer.
    Returns batches of images of similar shapes: float32 [n, 3, height, width] in 0 to 1, RGB, channels_last.
    Raises InputError where no image can be used, count is less than 1 or seed is negative.
    """
    if count < 1:
        raise InputError(f"`calib_images` is {count}; at least 1 image is expected")
    if seed < 0:
        raise InputError(f"`calib_seed` is {seed}; a whole number from 0 on is expected")
    try:
        images, problems = choose_images(folder, count, seed=seed)
        if problems:
            say(f"WARNING: {len(problems)} calibration images are skipped, such as {problems[0]}")
        if len(images) < count:
            say(
                f"WARNING: {count} calibration images are asked for, but {folder} holds {len(images)}; "
                "all are used"
            )
        return letterboxed_batches(images, imgsz=imgsz, stride=stride, resizing=resizing, workers=workers)
    except InputError as error:
        raise InputError(f"`calibration`: {error}") from error


def letterboxed_batches(
    images: Sequence[DatasetImage], *, imgsz: int, stride: int, resizing: Resizing, workers: int = 0
) -> list[Tensor]:
    """Read images and letterbox them. Return batches as read_images does."""
    loader = BatchLoader(
        images, imgsz=imgsz, batch_size=BATCH_SIZE, stride=stride, workers=workers, resizing=resizing
    )
    return [torch.from_numpy(b.pixels).permute(0, 3, 1, 2).float().div_(255) for b in loader]
