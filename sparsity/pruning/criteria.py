"""Which weights go: a score for each weight, and masks that keep the highest."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from sparsity.pruning.layers import convolutions
from sparsity.pruning.patterns import Pattern, select


def magnitude_masks(
    network: nn.Module, counts: Mapping[str, int], pattern: Pattern | None = None
) -> dict[str, Tensor]:
    """Mark the counts[name] largest weights of each Conv2d: True for a weight that stays.

    counts: by the name of the Conv2d, as keep_counts gives them; layers that it leaves out get no mask.
    pattern: at most n of every m in the layers that fit and aren't dense.
    Raises InputError for a weight that is NaN or a count out of range.
    """
    masks = {}
    for name, conv in convolutions(network):
        if name in counts:
            weight = conv.weight.detach()
            patterned = pattern and counts[name] < weight.numel() and pattern.fits(weight.shape)
            masks[name] = select(weight.abs(), counts[name], pattern if patterned else None)
    return masks
