"""Magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.apply import Module, apply_masks
from sparsity.pruning.criterion import ScoreCriterion
from sparsity.pruning.layers import is_depthwise, require_convolutions
from sparsity.pruning.patterns import AnyPattern, parse_pattern
from sparsity.pruning.scopes import Scope, check_amount, check_scope


class Magnitude(ScoreCriterion):
    """Magnitude pruning: the score is |w|. Source: Han et al., arXiv:1506.02626."""

    name = "l1"
    title = "magnitude"

    def scores(self, name: str, conv: nn.Conv2d) -> Tensor:
        return conv.weight.abs()


def magnitude_masks(
    network: nn.Module, counts: Mapping[str, int], pattern: AnyPattern | None = None
) -> dict[str, Tensor]:
    """Return masks of the counts[name] largest weights of each Conv2d (see ScoreCriterion.masks)."""
    return Magnitude().masks(network, counts, pattern)


def prune(
    network: Module,
    amount: float,
    scope: Scope = "layer",
    *,
    keep: Sequence[str] = (),
    pattern: str | AnyPattern | None = None,
    depthwise: bool = False,
) -> Module:
    """Set the smallest weights of every Conv2d to zero, permanently and in place. Return the network.

    amount: the fraction to prune, 0 <= amount < 1. In a layer, torch prunes round(amount * weights).
    scope: the allocation. "layer" prunes this fraction of each layer (l1_unstructured). "global" prunes this
    fraction of all weights together (global_unstructured). "lamp" and "erk" prune the same total as "global",
    allocated as in keep_counts.
    keep: names of layers that stay dense, with wildcards: 'model.24.*'.
    pattern: N:M as "2:4", at most n of every m consecutive input channels; "pair" or "quad", blocks of 2 or
    4 consecutive input channels that become zero or stay together; "" or None for no pattern.
    depthwise: whether depthwise layers are pruned as others are, as torch does; False: they stay dense (see
    keep_counts).
    Fuse batch norms first: this changes which weights are smallest.
    Raises InputError for another amount, scope or pattern, a name that matches no layer, an amount that
    can't be reached, or a network without Conv2d.

    Source: torch.nn.utils.prune; Han et al., arXiv:1506.02626.
    """
    amount = check_amount(amount)
    check_scope(scope)
    if isinstance(pattern, str):
        pattern = parse_pattern(pattern)
    convs = require_convolutions(network)
    pruned = [conv for conv in convs.values() if depthwise or not is_depthwise(conv)]
    # Global pruning without some of the layers would be a share of the others only.
    if not keep and not pattern and (scope == "layer" or (scope == "global" and len(pruned) == len(convs))):
        _prune_by_torch(pruned, amount, scope)
        return network
    counts = keep_counts(network, amount, scope, keep=keep, pattern=pattern, depthwise=depthwise)
    return apply_masks(network, magnitude_masks(network, counts, pattern))


def _prune_by_torch(convs: Sequence[nn.Conv2d], amount: float, scope: Scope) -> None:
    for conv in convs:
        # torch's pruning methods call view(-1) on the weights, which needs contiguous memory.
        conv.weight.data = conv.weight.data.contiguous()
    if scope == "layer":
        for conv in convs:
            torch_prune.l1_unstructured(conv, "weight", amount)
    else:
        weights = [(conv, "weight") for conv in convs]
        torch_prune.global_unstructured(weights, _LeanL1Unstructured, amount=amount)
    for conv in convs:
        torch_prune.remove(conv, "weight")


class _LeanL1Unstructured(torch_prune.L1Unstructured):
    """L1Unstructured that selects by a threshold instead of topk, which takes less memory.

    topk over the 87 million weights of YOLOv5x takes 1.4 GB for its pairs of value and index.
    """

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        count = round(self.amount * t.numel())
        mask = default_mask.clone()
        if count == 0:
            return mask
        magnitudes = t.detach().abs().float().view(-1)
        threshold = np.partition(magnitudes.cpu().numpy(), count - 1)[count - 1].item()
        below = magnitudes < threshold
        mask.view(-1)[below] = 0
        ties = (magnitudes == threshold).nonzero().view(-1)
        mask.view(-1)[ties[: count - int(below.sum())]] = 0
        return mask
