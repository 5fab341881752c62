"""The choice of the layers that take an N:M pattern."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.budgeting import Counts
from sparsity.pruning.patterns import Pattern, select


def most_kept(convs: Mapping[str, nn.Conv2d], lowest: Counts, pattern: Pattern) -> Counts:
    """Return the largest number of weights that each layer can keep, with the pattern where it fits."""
    highest = {}
    for name, conv in convs.items():
        size = conv.weight.numel()
        takes = pattern.fits(conv.weight.shape) and lowest[name] <= pattern.most(size)
        highest[name] = pattern.most(size) if takes else size
    return highest


def check_every_layer(sizes: Counts, lowest: Counts, amount: float, pattern: Pattern) -> None:
    """Raise InputError where not every layer that fits can have the pattern at this amount."""
    if amount < pattern.sparsity - 1e-9:
        raise InputError(
            f"sparsity {amount} of each layer is less than that of `pattern` {pattern}; "
            f"{pattern.sparsity:.4g} or more is expected, or another `scope`, which gives the pattern to "
            "some layers only"
        )
    if lowest == sizes:
        raise InputError(f"`pattern` {pattern} fits no layer that can be pruned; another one is expected")


def choose_layers(
    convs: Mapping[str, nn.Conv2d], lowest: Counts, highest: Counts, total: int, pattern: Pattern
) -> set[str]:
    """Choose the layers that take the pattern. All zeros are in these layers, so they must be large enough.

    The layers with the lowest cost are taken first. A layer that makes more zeros than are left is skipped.
    If the chosen layers can't hold all zeros, the layers with the largest gain are taken first instead: this
    finds a choice wherever there is one.
    """
    sizes = {name: conv.weight.numel() for name, conv in convs.items()}
    gains = {name: sizes[name] - highest[name] for name in sizes if highest[name] < sizes[name]}
    zeros = sum(sizes.values()) - total
    if sum(gains.values()) <= zeros:
        return set(gains)
    costs = {name: _relative_loss(convs[name], highest[name], pattern) / gains[name] for name in gains}
    for order in (sorted(gains, key=costs.__getitem__), sorted(gains, key=gains.__getitem__, reverse=True)):
        taking = _fill(order, gains, zeros)
        if sum(sizes[name] - lowest[name] for name in taking) >= zeros:
            return taking
    raise _no_choice(zeros, gains, sum(sizes.values()), pattern)


def _no_choice(zeros: int, gains: Counts, weights: int, pattern: Pattern) -> InputError:
    larger = min((gain for gain in gains.values() if gain > zeros), default=sum(gains.values()))
    return InputError(
        f"sparsity {zeros / weights:.4g} is {zeros} zeros, which no choice of layers with "
        f"`pattern` {pattern} makes: the layers in which it makes fewer zeros cannot hold this many; "
        f"0 or {math.ceil(larger / weights * 1e4) / 1e4} is expected"
    )


def _fill(order: Iterable[str], gains: Counts, zeros: int) -> set[str]:
    """Take layers in this order. A layer whose gain is more than the zeros that are left is skipped."""
    taking = set()
    for name in order:
        if gains[name] <= zeros:
            taking.add(name)
            zeros -= gains[name]
    return taking


def _relative_loss(conv: nn.Conv2d, count: int, pattern: Pattern) -> float:
    """Return the share of a layer's squared magnitude that the pattern prunes, in [0, 1]."""
    weight = conv.weight.detach().float()
    whole = weight.square().sum().item()
    lost = weight[~select(weight.abs(), count, pattern)].square().sum().item()
    return lost / whole if whole else 0.0
