"""The memory for the feature maps of calibration images while a network is pruned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from sparsity.base.memory import free_memory
from sparsity.base.progress import say

MAPS = 6
"""The memory of an image, in units of its largest feature map: dense, pruned, and kept for later layers."""
MEMORY_SHARE = 0.5
"""The share of the free memory that feature maps can take."""


def image_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Estimate the memory that one image of (height, width) takes while obs prunes, in bytes."""
    sizes: list[int] = []
    shapes_alone = copy.deepcopy(network).to("meta")
    for module in shapes_alone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _conv, _x, y: sizes.append(y.numel() * y.element_size()))
    with torch.no_grad():
        shapes_alone(torch.empty(1, 3, *shape, device="meta"))
    return MAPS * max(sizes)


def limit_by_memory(
    count: int,
    network: nn.Module,
    shape: Sequence[int],
    device: torch.device,
    say: Callable[[str], None] = say,
) -> int:
    """Return how many images, at most count, fit in memory while obs prunes. Warn if it is less than count.

    shape: the largest (height, width) of an image.
    """
    fitting = int(MEMORY_SHARE * free_memory(device) / image_bytes(network, shape))
    if count <= fitting:
        return count
    fitting = max(1, fitting)
    say(
        f"WARNING: {count} calibration images are asked for, but memory holds the feature maps of {fitting}; "
        f"{fitting} are used"
    )
    return fitting
