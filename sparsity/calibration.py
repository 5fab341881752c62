"""Calibration images: some of a folder's, without labels, as a network takes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from sparsity.data.dataset import DatasetImage, choose_images
from sparsity.data.loader import BatchLoader
from sparsity.errors import InputError
from sparsity.memory import free_memory
from sparsity.progress import say
from sparsity.yolo.network import Network

BATCH_SIZE = 4
"""Small, so that images of like shapes share a batch and little of it is padding."""
MAPS = 6
"""As many of the largest feature map as an image takes while obs prunes: dense and pruned, kept for later."""
MEMORY_SHARE = 0.5
"""Of the free memory, for calibration images' feature maps."""


def read_calibration(
    folder: str | PathLike[str],
    count: int,
    *,
    imgsz: int,
    stride: int,
    seed: int = 0,
    workers: int = 0,
    say: Callable[[str], None] = say,
) -> list[Tensor]:
    """Choose count images of a folder at random, and read them letterboxed, as validation does.

    stride: the network's largest. workers: threads that decode. say: takes a warning where images are
    left out, or there are fewer.
    Returns batches of like shapes: float32 [n, 3, height, width] in 0 to 1, RGB, channels_last.
    Raises InputError where there is no image to be used, or count is less than 1.
    """
    if count < 1:
        raise InputError(f"--calib-images is {count}; at least 1 image is expected")
    if seed < 0:
        raise InputError(f"--calib-seed is {seed}; a whole number from 0 on is expected")
    try:
        images, problems = choose_images(folder, count, seed=seed)
        if problems:
            say(f"WARNING: --calib: {len(problems)} of its images are left out, such as {problems[0]}")
        if len(images) < count:
            say(f"WARNING: --calib {folder}: {count} images are asked for, all {len(images)} in it are used")
        return letterboxed_batches(images, imgsz=imgsz, stride=stride, workers=workers)
    except InputError as error:
        raise InputError(f"--calib: {error}") from error


def letterboxed_batches(
    images: Sequence[DatasetImage], *, imgsz: int, stride: int, workers: int = 0
) -> list[Tensor]:
    """Images as read_calibration returns them."""
    loader = BatchLoader(images, imgsz=imgsz, batch_size=BATCH_SIZE, stride=stride, workers=workers)
    return [torch.from_numpy(b.pixels).permute(0, 3, 1, 2).float().div_(255) for b in loader]


def limit_by_memory(
    count: int,
    network: Network,
    imgsz: int,
    device: torch.device,
    say: Callable[[str], None] = say,
) -> int:
    """As many images, up to count, as memory holds while obs prunes; told where they are fewer."""
    side = imgsz + max(network.strides)  # a batch's sides are padded by as much at most
    fitting = int(MEMORY_SHARE * free_memory(device) / image_bytes(network, (side, side)))
    if count <= fitting:
        return count
    fitting = max(1, fitting)
    say(f"WARNING: --calib-images is {count}, but memory holds the feature maps of {fitting}: {fitting} used")
    return fitting


def image_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """About how much memory an image of (height, width) takes while obs prunes, in bytes."""
    sizes: list[int] = []
    shapes_alone = copy.deepcopy(network).to("meta")
    for module in shapes_alone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _conv, _x, y: sizes.append(y.numel() * y.element_size()))
    with torch.no_grad():
        shapes_alone(torch.empty(1, 3, *shape, device="meta"))
    return MAPS * max(sizes)
