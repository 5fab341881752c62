"""How much goes: how many weights each Conv2d keeps, so that the whole meets an amount."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.layers import require_convolutions
from sparsity.pruning.patterns import Pattern, select
from sparsity.pruning.scopes import Scope, check_amount, check_scope

Counts = dict[str, int]
"""A number of weights by the name of their Conv2d."""


def keep_counts(
    network: nn.Module,
    amount: float,
    scope: Scope,
    *,
    keep: Sequence[str] = (),
    caps: Mapping[str, float] | None = None,
    pattern: Pattern | None = None,
    marginals: Mapping[str, np.ndarray] | None = None,
) -> Counts:
    """How many weights each Conv2d keeps, by its name, in the network's order.

    amount: the fraction to prune, 0 <= amount < 1, rounded to whole weights as torch rounds: of each
    layer that may be pruned for scope "layer", else of all Conv2d weights together, met exactly.
    scope: "layer" the same fraction of each; "global" by magnitude over all layers; "lamp" by LAMP
    scores over all layers; "erk" densities that an Erdos-Renyi kernel gives; "measured" by marginals.
    keep: names of layers that stay dense, with the wildcards of fnmatch ('model.24.*').
    caps: the largest sparsity of layers, by such names; where several match, the smallest counts.
    pattern: a layer that fits stays dense or keeps at most n of every m; others stay dense. Where not
    every layer must take it, those do that lose the least of their squared magnitude per zero.
    marginals: what pruning each further weight of a layer costs, by its name, from the last one that would
    be pruned to the first, falling [weights]; scope "measured" needs them (see curves), and prunes what
    costs least.
    Raises InputError for what is out of range, names no layer, or asks more than can be reached.

    Sources: Lee et al., arXiv:2010.07611 (LAMP); Evci et al., arXiv:1911.11134 (ERK).
    """
    amount = check_amount(amount)
    check_scope(scope)
    convs = require_convolutions(network)
    sizes = {name: conv.weight.numel() for name, conv in convs.items()}
    lowest, highest = _lowest(sizes, keep, caps or {}), dict(sizes)
    if pattern:
        highest = _highest(convs, lowest, pattern)
        lowest = {name: low if highest[name] < sizes[name] else sizes[name] for name, low in lowest.items()}
    if scope == "layer":
        return _per_layer(sizes, lowest, highest, amount, pattern)
    total = sum(sizes.values()) - round(amount * sum(sizes.values()))
    _check_reachable(amount, total, lowest, sizes)
    if pattern:
        taking = _choose(convs, lowest, highest, total, pattern)
        highest = {name: high if name in taking else sizes[name] for name, high in highest.items()}
        lowest = {name: low if name in taking else sizes[name] for name, low in lowest.items()}
    if scope == "erk":
        return round_to_total({n: sum(c.weight.shape) for n, c in convs.items()}, lowest, highest, total)
    if scope == "measured":
        if marginals is None:
            raise InputError(f"scope {scope!r} needs calibration images; --calib names a folder of them")
        scores = {n: marginals[n][: highest[n]][lowest[n] :] for n in convs}
    else:
        scores = {n: _falling(c, scope, highest[n], pattern)[lowest[n] :] for n, c in convs.items()}
    return _keep_highest(scores, lowest, total)


def round_to_total(
    wished: Mapping[str, float], lowest: Mapping[str, int], highest: Mapping[str, int], total: int
) -> Counts:
    """Whole numbers in proportion to the wished ones, within bounds, whose sum is the total exactly.

    All wished numbers (>= 0) are scaled alike until, held within lowest <= count <= highest, they meet
    the total; those that meet it already stay as they are. The largest remainders are rounded up, the
    first of equal ones first. Where nothing is wished for, it takes what the others can't.
    Raises InputError where the bounds don't allow the total.
    """
    low, high = (np.array([bound[name] for name in wished], float) for bound in (lowest, highest))
    if (low > high).any() or not low.sum() <= total <= high.sum():
        raise InputError(f"a total of {total} is asked; from {low.sum():.0f} to {high.sum():.0f} is expected")
    weight = np.array(list(wished.values()), float)
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError("wished numbers of weights are expected to be finite and not negative")
    weight = np.maximum(weight, weight.max(initial=0) * 1e-12 or 1)
    # The sum is piecewise linear in the scale, with its corners where a layer meets a bound.
    scales = np.sort(np.concatenate([low / weight, high / weight]))
    sums = np.clip(scales[:, None] * weight, low, high).sum(axis=1)
    exact = np.clip(np.interp(total, sums, scales) * weight, low, high)
    counts = np.floor(exact + 1e-6).astype(int)
    upwards = np.argsort(np.where(counts < high, counts - exact, np.inf), kind="stable")
    counts[upwards[: total - counts.sum()]] += 1
    assert counts.sum() == total
    assert ((low <= counts) & (counts <= high)).all()
    return dict(zip(wished, counts.tolist(), strict=True))


def _lowest(sizes: Counts, keep: Sequence[str], caps: Mapping[str, float]) -> Counts:
    """The fewest weights that each layer keeps, by keep and caps."""
    lowest = dict.fromkeys(sizes, 0)
    for word in [keep] if isinstance(keep, str) else keep:
        for name in _matching(sizes, word, "--keep"):
            lowest[name] = sizes[name]
    for word, cap in caps.items():
        if not 0 <= cap <= 1:
            raise InputError(f"--caps: {word!r} is {cap!r}; a sparsity from 0 to 1 is expected")
        for name in _matching(sizes, word, "--caps"):
            # 0.29 * 100 is a little less than 29.
            zeros = math.floor(round(cap * sizes[name], 6))
            lowest[name] = max(lowest[name], sizes[name] - zeros)
    return lowest


def _matching(names: Iterable[str], word: str, flag: str) -> list[str]:
    found = [name for name in names if fnmatchcase(name, word)]
    if not found:
        some = list(names)[:2] + list(names)[2:][-1:]
        raise InputError(
            f"{flag} {word!r} matches no Conv2d; a name such as {', '.join(some)} is expected, * for any part"
        )
    return found


def _highest(convs: Mapping[str, nn.Conv2d], lowest: Counts, pattern: Pattern) -> Counts:
    """The most weights that each layer keeps with the pattern on; all where it can't take it."""
    highest = {}
    for name, conv in convs.items():
        size = conv.weight.numel()
        takes = pattern.fits(conv.weight.shape) and lowest[name] <= pattern.most(size)
        highest[name] = pattern.most(size) if takes else size
    return highest


def _per_layer(
    sizes: Counts, lowest: Counts, highest: Counts, amount: float, pattern: Pattern | None
) -> Counts:
    if pattern and amount < pattern.sparsity - 1e-9:
        raise InputError(
            f"sparsity {amount} of each layer is less than --pattern {pattern} makes; {pattern.sparsity:.4g} "
            "or more is expected, or another --scope, which gives the pattern to a part of the layers"
        )
    if pattern and lowest == sizes:
        raise InputError(f"--pattern {pattern} fits no layer that may be pruned; another is expected")
    wished = {name: size - round(amount * size) for name, size in sizes.items()}
    return {name: min(highest[name], max(lowest[name], count)) for name, count in wished.items()}


def _check_reachable(amount: float, total: int, lowest: Counts, sizes: Counts) -> None:
    weights, least = sum(sizes.values()), sum(lowest.values())
    if total < least:
        most = math.floor((weights - least) / weights * 1e4) / 1e4
        raise InputError(
            f"sparsity {amount} is {weights - total} zeros, but the layers that may be pruned hold "
            f"{weights - least} of {weights} weights; {most} at most is expected"
        )


def _choose(
    convs: Mapping[str, nn.Conv2d], lowest: Counts, highest: Counts, total: int, pattern: Pattern
) -> set[str]:
    """The layers that take the pattern, so that theirs are all zeros, and the total can be met.

    The cheapest first, passing over those that are too large for what is left. Where that leaves
    layers that can't hold the zeros, the largest first: it finds such layers where there are any.
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
        f"--pattern {pattern} makes: those that make fewer can't hold so many; "
        f"0 or {math.ceil(larger / weights * 1e4) / 1e4} is expected"
    )


def _fill(order: Iterable[str], gains: Counts, zeros: int) -> set[str]:
    """Take what fits into the zeros that are left, in order."""
    taking = set()
    for name in order:
        if gains[name] <= zeros:
            taking.add(name)
            zeros -= gains[name]
    return taking


def _relative_loss(conv: nn.Conv2d, count: int, pattern: Pattern) -> float:
    """The share of a layer's squared magnitude that the pattern takes, in [0, 1]."""
    weight = conv.weight.detach().float()
    whole = weight.square().sum().item()
    lost = weight[~select(weight.abs(), count, pattern)].square().sum().item()
    return lost / whole if whole else 0.0


def _falling(conv: nn.Conv2d, scope: Scope, count: int, pattern: Pattern | None) -> np.ndarray:
    """The scores of the weights that a layer may keep, from the highest: float32 [count]."""
    weights = conv.weight.detach().abs().float()
    if count < weights.numel():
        weights = weights[select(weights, count, pattern)]
    falling = np.sort(weights.cpu().numpy(), axis=None)[::-1]
    if scope == "global":
        return falling
    # Of equal weights the one that stays longer counts for the others, so each layer's last has 1.
    squares = np.square(falling, dtype=np.float64)
    sums = np.cumsum(squares)
    return np.divide(squares, sums, out=np.zeros_like(sums), where=sums > 0).astype(np.float32)


def _keep_highest(scores: Mapping[str, np.ndarray], lowest: Counts, total: int) -> Counts:
    """Keep the lowest count of each layer, and the highest of all other scores up to the total."""
    pool = torch.from_numpy(np.concatenate([falling[::-1] for falling in scores.values()]))
    kept = select(pool, total - sum(lowest.values())).split([len(falling) for falling in scores.values()])
    return {name: lowest[name] + int(part.sum()) for name, part in zip(scores, kept, strict=True)}
