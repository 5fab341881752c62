"""Statistics of a convolution's inputs on calibration images: the second moments of their patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

ROUNDINGS = 10
"""The assumed rounding error of a mean square, in units of the floating-point type's epsilon."""
LEAST_PATCHES = 16
"""The smallest number of patches drawn from an image, for any number of images."""


@dataclass(frozen=True)
class Moments:
    """Moments of patches x, which the layer reads, and y, which it reads in the dense network.

    x and y are from the same places. k is inputs of a group x kernel height x kernel width.
    xx: covariance of x, [groups, k, k]. yx: covariance of y with x, [groups, k, k]. x, y: means, [groups, k].
    If the layer has no bias, which could compensate for the means, the moments are about zero, and the means
    are 0.
    """

    xx: Tensor
    yx: Tensor
    x: Tensor
    y: Tensor


def patches(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Return the patch that each output cell reads: [n, groups, k, cells].

    images: inputs [n, channels, height, width]. Raises NotImplementedError for padding other than a number
    of zeros.
    """
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise NotImplementedError(
            f"padding is {conv.padding!r}, {conv.padding_mode}; numbers, with mode zeros, are expected"
        )
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
    """Return the moments of about most_patches patches at most, drawn evenly from all images.

    batches: inputs [n, channels, height, width]. If paired, [2 * n, ...]: the first half is from the dense
    network, the second half is for the same images from the network as pruned so far. Otherwise y is x.
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
    """Return the rounding error to assume for each square, [groups, k].

    Without it, xx looks singular for constant inputs.
    """
    squares = xx.diagonal(dim1=1, dim2=2)
    return ROUNDINGS * torch.finfo(xx.dtype).eps * squares.mean(-1, keepdim=True).expand_as(squares)


def _sample(columns: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Draw at most this many columns of the last dimension at random."""
    count = columns.shape[-1]
    if count <= most:
        return columns
    return columns[..., torch.randperm(count, generator=generator)[:most].to(columns.device)]
