"""What a convolution's inputs are like on calibration images: second moments of their patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

ROUNDINGS = 10
"""Steps of the floating-point type that a mean square may be off."""
LEAST_PATCHES = 16
"""Taken of every image, however many images there are."""


@dataclass(frozen=True)
class Moments:
    """Of patches x that the layer sees and y that it saw in the dense network, in the same places.

    xx: covariance of x, [groups, k, k]; k is inputs a group x kernel height x kernel width.
    yx: covariance of y with x, [groups, k, k]. x, y: means, [groups, k].
    About zero instead of the means where the layer has no bias to take the means up.
    """

    xx: Tensor
    yx: Tensor
    x: Tensor
    y: Tensor


def patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Inputs [n, channels, height, width] -> what each output cell sees, [n, groups, k, cells]."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise NotImplementedError(f"padding {conv.padding!r}, {conv.padding_mode}: only numbers of zeros")
    if conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0):
        columns = images.flatten(2)
    else:
        columns = unfold(images, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return columns.unflatten(1, (conv.groups, -1))


def gather_moments(
    conv: nn.Conv2d,
    batches: Sequence[Tensor],
    most_patches: int,
    generator: torch.Generator,
    *,
    paired: bool = True,
) -> Moments:
    """Moments over at most about most_patches patches, drawn evenly from all images.

    batches: inputs [n, channels, height, width]; where paired, [2 * n, ...]: the first half the dense
    network's, the second those of the same images in the network as pruned so far; else y is x.
    generator: on the CPU.
    """
    k, like = conv.weight[0].numel(), {"dtype": conv.weight.dtype, "device": conv.weight.device}
    xx, yx = (torch.zeros(conv.groups, k, k, **like) for _ in range(2))
    x, y = (torch.zeros(conv.groups, k, **like) for _ in range(2))
    images = sum(len(batch) for batch in batches) // (1 + paired)
    share = max(LEAST_PATCHES, most_patches // max(1, images))
    count = 0
    for batch in batches:
        for images_of_one in batch.unflatten(0, (1 + paired, -1)).unbind(1):
            seen = _sample(patches(conv, images_of_one), share, generator)
            dense, pruned = seen[0], seen[-1]
            xx += pruned @ pruned.mT
            yx += dense @ pruned.mT if paired else 0
            x += pruned.sum(-1)
            y += dense.sum(-1)
            count += seen.shape[-1]
    x, y, xx, yx = (total / count for total in (x, y, xx, yx if paired else xx))
    xx += torch.diag_embed(_rounding(xx))
    if conv.bias is None:
        return Moments(xx, yx, torch.zeros_like(x), torch.zeros_like(y))
    return Moments(xx - x[:, :, None] * x[:, None], yx - y[:, :, None] * x[:, None], x, y)


def _rounding(xx: Tensor) -> Tensor:
    """What summing may have lost of each square [groups, k]: without it, constant inputs look singular."""
    squares = xx.diagonal(dim1=1, dim2=2)
    return ROUNDINGS * torch.finfo(xx.dtype).eps * squares.mean(-1, keepdim=True).expand_as(squares)


def _sample(columns: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the last dimension, drawn at random."""
    count = columns.shape[-1]
    if count <= most:
        return columns
    return columns[..., torch.randperm(count, generator=generator)[:most].to(columns.device)]
