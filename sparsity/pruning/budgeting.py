"""Allocation under a budget of prices that need not be proportional to the kept weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sparsity.pruning.price_curves import LayerPrice, sum_prices

Counts = dict[str, int]
"""Name of a Conv2d -> a number of its weights."""
STEPS = 10_000
"""Into how many steps the total is divided."""
LEVELS = 100
"""How many levels of kept weights, equally spaced, are candidates in a layer."""
HALVINGS = 200
"""Enough to find a factor to the last bit."""


def allocate(
    losses: Mapping[str, np.ndarray], prices: Mapping[str, LayerPrice], lowest: Counts, total: float
) -> Counts:
    """Return how many weights each layer keeps: the least sum of losses within this total of prices.

    losses: [n + 1], falling, by the layer's name: the loss if lowest, lowest + 1, ... lowest + n weights are
    kept. A dynamic program is exact for prices of any shape, where Lagrange multipliers skip whatever is
    not on a convex hull. Its prices are rounded up to steps of the total, and its candidates are levels; then
    what is left is spent on single weights. At the end, the next weight of no layer fits into the total.
    total: at least the sum of the prices of lowest.

    Source: Frantar and Alistarh, "SPDY", arXiv:2201.13096.
    """
    levels = {name: _levels(len(loss) - 1) for name, loss in losses.items()}
    least = {name: float(prices[name].at(lowest[name])) for name in losses}
    spare = max(0.0, total - sum(least.values()))
    chosen = _solve(
        [losses[name][levels[name]] for name in losses],
        [_steps(prices[name].at(lowest[name] + levels[name]) - least[name], spare) for name in losses],
    )
    counts = {name: lowest[name] + int(levels[name][one]) for name, one in zip(losses, chosen, strict=True)}
    return _spend(counts, losses, prices, lowest, total)


def _levels(more: int) -> np.ndarray:
    return np.unique(np.linspace(0, more, LEVELS + 1).round().astype(int))


def _steps(prices: np.ndarray, spare: float) -> np.ndarray:
    """Return prices in whole steps, rounded up; more than STEPS where they exceed what is there to spend."""
    if not spare:
        return np.where(prices > 0, STEPS + 1, 0)
    return np.minimum(np.ceil(prices / spare * STEPS - 1e-9), STEPS + 1).astype(int)


def _solve(losses: list[np.ndarray], steps: list[np.ndarray]) -> list[int]:
    """Return the level of each layer with the least sum of losses and at most STEPS steps in all."""
    best = np.zeros(STEPS + 1)
    """The least loss of the layers so far, by the steps that they may take."""
    choices = []
    for loss, price in zip(losses, steps, strict=True):
        new, choice = np.full(STEPS + 1, np.inf), np.zeros(STEPS + 1, np.int16)
        for level in np.flatnonzero(price <= STEPS):
            reached, sums = slice(price[level], None), best[: STEPS + 1 - price[level]] + loss[level]
            better = sums < new[reached]
            new[reached][better], choice[reached][better] = sums[better], level
        best = new
        choices.append(choice)
    left, chosen = STEPS, []
    for choice, price in zip(reversed(choices), reversed(steps), strict=True):
        chosen.append(int(choice[left]))
        left -= price[chosen[-1]]
    return chosen[::-1]


def _spend(
    counts: Counts,
    losses: Mapping[str, np.ndarray],
    prices: Mapping[str, LayerPrice],
    lowest: Counts,
    total: float,
) -> Counts:
    """Spend what is left of the total where it lowers the loss most, until no other weight fits."""
    counts = dict(counts)
    highest = {name: lowest[name] + len(loss) - 1 for name, loss in losses.items()}
    while True:
        left = total - sum_prices(counts, prices)
        reach = {
            name: prices[name].most_within(float(prices[name].at(count)) + left, count, highest[name])
            for name, count in counts.items()
        }
        gains = {
            name: losses[name][counts[name] - lowest[name]] - losses[name][reach[name] - lowest[name]]
            for name in counts
            if reach[name] > counts[name]
        }
        if not gains:
            return counts
        first = max(gains, key=gains.__getitem__)
        counts[first] = reach[first]


def keep_highest_within(
    scores: Mapping[str, np.ndarray], prices: Mapping[str, LayerPrice], lowest: Counts, total: float
) -> Counts:
    """Keep the lowest count of each layer, then the highest of all scores while their prices allow it.

    scores: of the other weights of each layer, falling, not negative. Layers that cost the same however many
    of their weights are kept are kept whole.
    """
    most = {name: lowest[name] + len(one) for name, one in scores.items()}
    free = {name for name in scores if prices[name].at(most[name]) <= prices[name].at(lowest[name])}

    def whole(kept: Counts) -> Counts:
        return {name: most[name] if name in free else lowest[name] + kept[name] for name in kept}

    kept, tied = highest_fitting(scores, lambda counts: sum_prices(whole(counts), prices) <= total)
    return _raise(whole(kept), whole(tied), prices, total)


def highest_fitting(
    scores: Mapping[str, np.ndarray], fits: Callable[[Counts], bool]
) -> tuple[Counts, Counts]:
    """Return how many weights of each layer have the highest scores: the most that fit, and the next more.

    scores: of each layer, falling, not negative. fits: whether counts are few enough. The second counts
    include all weights with the next score, and do not fit.
    """
    rising = {name: np.asarray(one[::-1], np.float64) for name, one in scores.items()}

    def above(bits: int) -> Counts:
        """Return how many weights of each layer score at least this, given as the bits of a float."""
        least = np.int64(bits).view(np.float64)
        return {name: len(one) - int(np.searchsorted(one, least)) for name, one in rising.items()}

    # The bits of positive floats are in the order of the floats.
    low, high = 0, int(np.float64(np.inf).view(np.int64))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(above(middle)) else (middle, high)
    return above(high), above(low)


def proportional_within(
    proportions: Mapping[str, float],
    prices: Mapping[str, LayerPrice],
    lowest: Counts,
    highest: Counts,
    total: float,
) -> Counts:
    """Return counts in these proportions (> 0), within bounds, with at most this sum of prices.

    One factor multiplies all proportions: the largest that the total allows. The largest remainders are
    rounded up first.
    """

    def exact(factor: float) -> dict[str, float]:
        return {n: min(highest[n], max(lowest[n], factor * part)) for n, part in proportions.items()}

    low, high = 0.0, max(highest[name] / part for name, part in proportions.items())
    if sum_prices(exact(high), prices) <= total:
        return dict(highest)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = sum_prices(exact(middle), prices) <= total
        low, high = (middle, high) if fits else (low, middle)
    whole = {name: int(count) for name, count in exact(low).items()}
    rest = {name: count - whole[name] for name, count in exact(low).items()}
    order = sorted(rest, key=rest.__getitem__, reverse=True)
    return _raise(whole, {name: min(highest[name], whole[name] + 1) for name in order}, prices, total)


def _raise(
    counts: Counts, limits: Mapping[str, int], prices: Mapping[str, LayerPrice], total: float
) -> Counts:
    """Raise the counts to their limits, in the order of the limits, as far as the total allows."""
    counts = dict(counts)
    left = total - sum_prices(counts, prices)
    for name, limit in limits.items():
        before, price = counts[name], float(prices[name].at(counts[name]))
        counts[name] = prices[name].most_within(price + left, before, max(before, limit))
        left -= float(prices[name].at(counts[name])) - price
    return counts
