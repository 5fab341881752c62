"""Allocation of an amount: how many weights each Conv2d keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.budgeting import (
    Counts,
    allocate,
    highest_fitting,
    keep_highest_within,
    proportional_within,
)
from sparsity.pruning.layers import is_depthwise, require_convolutions
from sparsity.pruning.n_of_m import check_every_layer, choose_layers, most_kept
from sparsity.pruning.patterns import AnyPattern, Pattern, block_size, select
from sparsity.pruning.price_curves import LayerPrice, PriceCurve, per_weight, sum_prices
from sparsity.pruning.scopes import Scope, check_amount, check_scope

TINIEST = 1e-9
"""Stands for a price of 0, of a layer that never runs."""


def keep_counts(
    network: nn.Module,
    amount: float,
    scope: Scope,
    *,
    keep: Sequence[str] = (),
    caps: Mapping[str, float] | None = None,
    pattern: AnyPattern | None = None,
    marginals: Mapping[str, np.ndarray] | None = None,
    prices: Mapping[str, int] | Mapping[str, int | PriceCurve] | None = None,
    fixed_price: int = 0,
    depthwise: bool = False,
) -> Counts:
    """Return how many weights each Conv2d keeps, by its name, in the network's order.

    amount: the fraction to prune, 0 <= amount < 1, rounded to whole weights as torch rounds. For scope
    "layer", it is the fraction of each layer that is not kept dense. For the other scopes, it is the fraction
    of all Conv2d weights together, and is met exactly.
    scope: the allocation. "layer": the same fraction of each layer. "global": by magnitude over all layers.
    "lamp": by LAMP scores over all layers. "erk": Erdos-Renyi kernel densities. "measured": by marginals.
    keep: names of layers that stay dense, with the wildcards of fnmatch ('model.24.*').
    caps: the largest sparsity of layers, by such names. If several names match a layer, the smallest holds.
    pattern: N:M: a layer that fits the pattern either stays dense or keeps at most n of every m weights.
    Other layers stay dense. If not every layer needs the pattern to reach the amount, it is applied to the
    layers that lose the smallest share of their squared magnitude per zero. Blocks: a layer that fits keeps
    whole blocks, other layers are pruned without a pattern. The amount is then pruned or a little more: the
    total is met up to the price of one block. For scope "layer", each layer keeps the nearest whole number
    of blocks.
    marginals: the cost of pruning one more weight of a layer, by the layer's name: [weights], falling, from
    the last weight that would be pruned to the first. Scope "measured" needs them (see curves) and prunes
    where the cost is lowest.
    prices: the price of a weight of each layer (see multiply_adds.prices). The amount is then a share of the
    sum of all prices, met up to the price of one weight. Scope "measured" prunes where the cost is lowest for
    the price; the others keep their order. N:M can't be given. If a layer has a price curve instead, its
    price need not be proportional to its weights: see budgeting. The amount is then a share of these prices
    for scope "layer", too, which keeps the largest same share of each layer that the total allows.
    fixed_price: a price that no weight changes, such as the multiply-adds of attention's products. The amount
    is a share of the sum with it. Scope "layer" and price curves leave it out.
    depthwise: whether depthwise layers are pruned as others are. False: they stay dense, as by keep. A filter
    of such a layer has the weights of one channel only, 9 or 49, and few zeros make it constant.
    Raises InputError for a value out of range, a name that matches no layer, or an amount that can't be
    reached.

    Sources: Lee et al., arXiv:2010.07611 (LAMP); Evci et al., arXiv:1911.11134 (ERK).
    """
    amount = check_amount(amount)
    check_scope(scope)
    convs = require_convolutions(network)
    sizes = {name: conv.weight.numel() for name, conv in convs.items()}
    lowest = _lowest(convs, keep, caps or {}, depthwise)
    ranking = _Ranking(convs, scope, pattern, marginals)
    if pattern and pattern.sparsity:
        if prices:
            raise InputError(f"`pattern` {pattern} goes with `budget` weights only; leave one of them out")
        return _keep_n_of_m(ranking, amount, lowest, pattern)
    blocks = {name: block_size(pattern, conv.weight.shape) for name, conv in convs.items()}
    units = {name: size // blocks[name] for name, size in sizes.items()}
    least = {name: -(-low // blocks[name]) for name, low in lowest.items()}
    if prices and any(isinstance(price, PriceCurve) for price in prices.values()):
        curves = {name: LayerPrice(_as_curve(prices[name], sizes[name]), n) for name, n in units.items()}
        kept = _keep_by_curves(ranking, amount, least, curves)
    elif scope == "layer":
        kept = _per_layer(units, least, units, amount)
    else:
        price = prices or dict.fromkeys(sizes, 1)
        whole = _sum_prices(sizes, price)
        total = whole - round(amount * (whole + fixed_price))
        floor = {n: count * blocks[n] for n, count in least.items()}
        _check_reachable(amount, total, floor, sizes, price, fixed_price)
        if prices is None and units == sizes:
            return _keep_exactly(ranking, lowest, sizes, total)
        price = {name: price[name] * block for name, block in blocks.items()}
        kept = _keep_by_prices(ranking, least, units, total, price)
    return {name: count * blocks[name] for name, count in kept.items()}


@dataclass(frozen=True)
class _Ranking:
    """What the weights of a network are ranked by: a scope, in whole blocks of a pattern if there is one."""

    convs: Mapping[str, nn.Conv2d]
    scope: Scope
    pattern: AnyPattern | None
    marginals: Mapping[str, np.ndarray] | None

    def scores(self, lowest: Counts, highest: Counts) -> dict[str, np.ndarray]:
        """Return the scores of what may be kept or pruned of each layer, weights or blocks, falling."""
        if self.scope == "measured":
            falling = self.losses()
        else:
            falling = {
                name: _falling(conv, self.scope, highest[name], self.pattern)
                for name, conv in self.convs.items()
            }
        return {name: falling[name][: highest[name]][lowest[name] :] for name in self.convs}

    def losses(self) -> dict[str, np.ndarray]:
        """Return the cost of pruning one more weight or block of each layer, falling."""
        marginals = _known(self.marginals)
        return {name: marginals[name].reshape(-1, self._block(name)).sum(1) for name in self.convs}

    def proportions(self) -> dict[str, float]:
        """Return the proportions of the layers' counts for scope "erk"."""
        return {name: sum(conv.weight.shape) / self._block(name) for name, conv in self.convs.items()}

    def _block(self, name: str) -> int:
        return block_size(self.pattern, self.convs[name].weight.shape)


def _keep_n_of_m(ranking: _Ranking, amount: float, lowest: Counts, pattern: Pattern) -> Counts:
    convs = ranking.convs
    sizes = {name: conv.weight.numel() for name, conv in convs.items()}
    highest = most_kept(convs, lowest, pattern)
    lowest = {name: low if highest[name] < sizes[name] else sizes[name] for name, low in lowest.items()}
    if ranking.scope == "layer":
        check_every_layer(sizes, lowest, amount, pattern)
        return _per_layer(sizes, lowest, highest, amount)
    total = sum(sizes.values()) - round(amount * sum(sizes.values()))
    _check_reachable(amount, total, lowest, sizes, dict.fromkeys(sizes, 1))
    taking = choose_layers(convs, lowest, highest, total, pattern)
    highest = {name: high if name in taking else sizes[name] for name, high in highest.items()}
    lowest = {name: low if name in taking else sizes[name] for name, low in lowest.items()}
    return _keep_exactly(ranking, lowest, highest, total)


def _keep_exactly(ranking: _Ranking, lowest: Counts, highest: Counts, total: int) -> Counts:
    if ranking.scope == "erk":
        return round_to_total(ranking.proportions(), lowest, highest, total)
    return _keep_highest(ranking.scores(lowest, highest), lowest, total)


def _keep_by_prices(
    ranking: _Ranking, lowest: Counts, highest: Counts, total: int, prices: Mapping[str, int]
) -> Counts:
    """Return how many blocks each layer keeps. lowest, highest, prices: of blocks, or of single weights."""
    if ranking.scope == "erk":
        return _round_below_total(ranking.proportions(), lowest, highest, total, prices)
    scores = ranking.scores(lowest, highest)
    if ranking.scope == "measured":  # The only scores that are a loss, which can be weighed against a price.
        scores = {name: one / max(prices[name], TINIEST) for name, one in scores.items()}
    return keep_within(scores, lowest, total, prices)


def least_price(
    network: nn.Module,
    curves: Mapping[str, PriceCurve],
    keep: Sequence[str] = (),
    *,
    depthwise: bool = False,
) -> float:
    """Return the sum of the prices of all layers, where those that are not kept dense have only zeros."""
    convs = require_convolutions(network)
    prices = {name: LayerPrice(curves[name], conv.weight.numel()) for name, conv in convs.items()}
    return sum_prices(_lowest(convs, keep, {}, depthwise), prices)


def _as_curve(price: float | PriceCurve, weights: int) -> PriceCurve:
    return price if isinstance(price, PriceCurve) else per_weight(price, weights)


def _keep_by_curves(
    ranking: _Ranking, amount: float, lowest: Counts, prices: Mapping[str, LayerPrice]
) -> Counts:
    """Return how many blocks each layer keeps. lowest, prices: of blocks, or of single weights."""
    sizes = {name: price.weights for name, price in prices.items()}
    whole, least = sum_prices(sizes, prices), sum_prices(lowest, prices)
    total = (1 - amount) * whole
    if total < least:
        raise InputError(
            f"sparsity {amount} leaves {1 - amount:.4g} of the price of all layers, but {least / whole:.4g} "
            f"is left where every layer that can be pruned is zero; {_most(whole, least)} at most is expected"
        )
    if ranking.scope in ("layer", "erk"):
        proportions = dict(sizes) if ranking.scope == "layer" else ranking.proportions()
        return proportional_within(proportions, prices, lowest, sizes, total)
    if ranking.scope == "measured":
        losses = {name: _losses(one, sizes[name] - lowest[name]) for name, one in ranking.losses().items()}
        return allocate(losses, prices, lowest, total)
    return keep_highest_within(ranking.scores(lowest, sizes), prices, lowest, total)


def _most(whole: float, least: float) -> float:
    """Return the largest amount, rounded down to four digits, if this least part of the whole must stay."""
    return math.floor((whole - least) / whole * 1e4) / 1e4


def _losses(marginals: np.ndarray, prunable: int) -> np.ndarray:
    """Return the loss if all but 0, 1, ... of the prunable weights are pruned: [prunable + 1], falling."""
    first = marginals[len(marginals) - prunable :]
    return np.append(np.cumsum(first[::-1])[::-1], 0.0)


def _known(marginals: Mapping[str, np.ndarray] | None) -> Mapping[str, np.ndarray]:
    if marginals is None:
        raise InputError(
            "`scope` 'measured' needs calibration images; give them to a Pruner as `calibration`"
        )
    return marginals


def _sum_prices(counts: Mapping[str, int], price: Mapping[str, int]) -> int:
    return sum(count * price[name] for name, count in counts.items())


def round_to_total(
    proportions: Mapping[str, float], lowest: Mapping[str, int], highest: Mapping[str, int], total: int
) -> Counts:
    """Return whole numbers in these proportions, within bounds, with exactly this sum.

    All proportions (>= 0) are multiplied by one factor and clipped to lowest <= count <= highest. The
    factor is chosen so that their sum is the total; numbers that already have this sum are not changed. The
    largest remainders are rounded up; of equal remainders, the first is rounded up first. Names with a
    proportion of 0 get only what the others cannot take.
    Raises InputError where the bounds don't allow the total.
    """
    low, high = (np.array([bound[name] for name in proportions], float) for bound in (lowest, highest))
    if (low > high).any() or not low.sum() <= total <= high.sum():
        raise InputError(f"`total` is {total}; from {low.sum():.0f} to {high.sum():.0f} is expected")
    weight = np.array(list(proportions.values()), float)
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError("`proportions` holds a number that is negative or not finite; 0 or more is expected")
    weight = np.maximum(weight, weight.max(initial=0) * 1e-12 or 1)
    exact = _proportional(weight, low, high, np.ones_like(weight), total)
    counts = np.floor(exact + 1e-6).astype(int)
    upwards = np.argsort(np.where(counts < high, counts - exact, np.inf), kind="stable")
    counts[upwards[: total - counts.sum()]] += 1
    assert counts.sum() == total
    assert ((low <= counts) & (counts <= high)).all()
    return dict(zip(proportions, counts.tolist(), strict=True))


def _proportional(
    weight: np.ndarray, low: np.ndarray, high: np.ndarray, price: np.ndarray, total: int
) -> np.ndarray:
    """Return numbers in proportion to weight, clipped to the bounds, whose prices have this sum."""
    # The sum is piecewise linear in the scale. Its corners are where a layer reaches a bound.
    scales = np.sort(np.concatenate([low / weight, high / weight]))
    sums = (np.clip(scales[:, None] * weight, low, high) * price).sum(axis=1)
    return np.clip(np.interp(total, sums, scales) * weight, low, high)


def _round_below_total(
    proportions: Mapping[str, float],
    lowest: Mapping[str, int],
    highest: Mapping[str, int],
    total: int,
    prices: Mapping[str, int],
) -> Counts:
    """Return whole numbers as round_to_total does, with at most this sum of prices, less than one short."""
    low, high, weight, price = (
        np.array([one[name] for name in proportions], float) for one in (lowest, highest, proportions, prices)
    )
    exact = _proportional(weight, low, high, price, total)
    counts = np.floor(exact + 1e-6).astype(int)
    spare = total - int((counts * price).sum())
    for one in np.argsort(counts - exact, kind="stable"):
        if counts[one] < high[one] and price[one] <= spare:
            counts[one] += 1
            spare -= int(price[one])
    return dict(zip(proportions, counts.tolist(), strict=True))


def _lowest(
    convs: Mapping[str, nn.Conv2d], keep: Sequence[str], caps: Mapping[str, float], depthwise: bool
) -> Counts:
    """Return the smallest number of weights that each layer can keep, by keep, caps and depthwise."""
    sizes = {name: conv.weight.numel() for name, conv in convs.items()}
    lowest = {name: 0 if depthwise or not is_depthwise(convs[name]) else size for name, size in sizes.items()}
    for word in [keep] if isinstance(keep, str) else keep:
        for name in _matching(sizes, word, "keep"):
            lowest[name] = sizes[name]
    for word, cap in caps.items():
        if not 0 <= cap <= 1:
            raise InputError(f"`caps` {word!r} is {cap!r}; a sparsity from 0 to 1 is expected")
        for name in _matching(sizes, word, "caps"):
            # In floating point, 0.29 * 100 is slightly less than 29.
            zeros = math.floor(round(cap * sizes[name], 6))
            lowest[name] = max(lowest[name], sizes[name] - zeros)
    return lowest


def _matching(names: Iterable[str], word: str, argument: str) -> list[str]:
    found = [name for name in names if fnmatchcase(name, word)]
    if not found:
        some = list(names)[:2] + list(names)[2:][-1:]
        raise InputError(
            f"`{argument}` {word!r} matches no Conv2d; a name such as {', '.join(some)} is expected "
            "(* stands for any part)"
        )
    return found


def _per_layer(sizes: Counts, lowest: Counts, highest: Counts, amount: float) -> Counts:
    counts = {name: size - round(amount * size) for name, size in sizes.items()}
    return {name: min(highest[name], max(lowest[name], count)) for name, count in counts.items()}


def _check_reachable(
    amount: float, total: int, lowest: Counts, sizes: Counts, price: Mapping[str, int], fixed: int = 0
) -> None:
    whole, least = _sum_prices(sizes, price) + fixed, _sum_prices(lowest, price) + fixed
    total += fixed
    if total < least:
        what = ("zeros", "weights") if set(price.values()) == {1} else ("multiply-adds less", "multiply-adds")
        raise InputError(
            f"sparsity {amount} is {whole - total} {what[0]}, but the layers that can be pruned hold "
            f"{whole - least} of {whole} {what[1]}; {_most(whole, least)} at most is expected"
        )


def _falling(conv: nn.Conv2d, scope: Scope, count: int, pattern: AnyPattern | None) -> np.ndarray:
    """Return the scores of the weights or blocks that a layer can keep, in falling order: float32 [count].

    A block counts as weights that are all equal to the mean of their magnitudes.
    """
    weights, size = conv.weight.detach().abs().float(), block_size(pattern, conv.weight.shape)
    if size > 1:
        weights = weights.unflatten(1, (-1, size)).mean(2)
    elif count < weights.numel():
        weights = weights[select(weights, count, pattern)]
    falling = np.sort(weights.cpu().numpy(), axis=None)[::-1]
    if scope == "global":
        return falling
    # A weight's sum includes equal weights that are kept longer, so the last weight of a layer scores 1.
    squares = np.square(falling, dtype=np.float64)
    sums = np.cumsum(squares) * size
    return np.divide(squares, sums, out=np.zeros_like(sums), where=sums > 0).astype(np.float32)


def _keep_highest(scores: Mapping[str, np.ndarray], lowest: Counts, total: int) -> Counts:
    """Keep the lowest count of each layer, then the highest of all scores until the total is reached."""
    pool = torch.from_numpy(np.concatenate([falling[::-1] for falling in scores.values()]))
    kept = select(pool, total - sum(lowest.values())).split([len(falling) for falling in scores.values()])
    return {name: lowest[name] + int(part.sum()) for name, part in zip(scores, kept, strict=True)}


def keep_within(
    scores: Mapping[str, np.ndarray], lowest: Counts, total: int, prices: Mapping[str, int]
) -> Counts:
    """Keep the lowest count of each layer, then the highest of all scores while their prices allow it.

    scores: of the other weights of each layer, falling, not negative. total: the sum of the prices of all
    kept weights is at most this. What is left of it is less than the price of a weight with the next score.
    Weights without a price are all kept.
    """
    free = {name: len(one) for name, one in scores.items() if not prices[name]}
    left = total - _sum_prices(lowest, prices)
    priced = {name: one for name, one in scores.items() if prices[name]}
    kept, tied = highest_fitting(priced, lambda counts: _sum_prices(counts, prices) <= left)
    left -= _sum_prices(kept, prices)
    for name, count in kept.items():
        more = min(tied[name] - count, left // prices[name])
        kept[name], left = count + more, left - more * prices[name]
    return {name: lowest[name] + (kept | free)[name] for name in scores}
