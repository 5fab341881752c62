"""Prunes a network to a speedup: the amount comes from predicted times, and measurements correct it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.method import Method
from sparsity.pruning.pruner import Pruner
from sparsity.timing.latency import Latency

TOLERANCE = 0.03
"""A measured speedup that is further off, as a share of the asked one, is corrected."""
CORRECTIONS = 2
"""How often, at most."""
ROUNDING = 1e-9
"""Shares of times are rounded by less than this."""
Measure = Callable[[Sequence[nn.Module]], Sequence[Latency]]
"""Returns the latency of each of these networks, which take turns."""


@dataclass(frozen=True)
class Trial:
    """A network that was pruned for a speedup, and timed.

    amount: the share of the predicted time of all weights that was pruned. price: the predicted time that is
    left, in seconds. predicted, measured: the speedup over the network that was pruned. dense, pruned: the
    latencies of both, measured by turns.
    """

    network: nn.Module
    amount: float
    price: float
    predicted: float
    dense: Latency
    pruned: Latency

    @property
    def measured(self) -> float:
        """The speedup by the medians."""
        return self.dense.median / self.pruned.median


def check_speedup(speedup: float) -> float:
    """Return the speedup. Raises InputError unless it is a finite number above 1."""
    if not isinstance(speedup, Real) or not 1 < speedup < math.inf:
        raise InputError(f"`speedup` is {speedup!r}; a number above 1 is expected, such as 1.5")
    return float(speedup)


def prune_to_speedup(
    pruner: Pruner,
    method: Method,
    speedup: float,
    measure: Measure,
    say: Callable[[str], object] = lambda _line: None,
) -> Trial:
    """Prune so that a network is this many times as fast as the pruner's network.

    method: with budget "latency". If the measured speedup is more than 3% off, the amount is corrected along
    the line through the last two measurements, at most twice; the nearest trial is returned.
    say: called with a line for each trial, and with a warning where none is near enough.
    Raises InputError for a speedup that is not reachable.
    """
    check_reachable(pruner, speedup)
    whole, start = sum(float(curve.at(1.0)) for curve in pruner.price_curves().values()), pruner.price()
    least = pruner.least_price() * (1 + ROUNDING)
    points, trials = [(start, 1.0)], []
    price = max(start / speedup, least)
    for _ in range(1 + CORRECTIONS):
        trials.append(_try(pruner, method, price, whole, measure))
        say(format_trial(trials[-1], speedup))
        if abs(trials[-1].measured / speedup - 1) <= TOLERANCE:
            break
        points.append((price, 1 / trials[-1].measured))
        price = min(max(_secant(points[-2], points[-1], 1 / speedup), least), start)
        if price == points[-1][0]:
            break
    best = min(trials, key=lambda one: abs(math.log(one.measured / speedup)))
    if abs(best.measured / speedup - 1) > TOLERANCE:
        say(_warning(best, trials, speedup))
    return best


def check_reachable(pruner: Pruner, speedup: float) -> None:
    """Raise InputError for a speedup that not even a network of zeros would have, by the predicted times."""
    start, least = pruner.price(), pruner.least_price()
    if start / check_speedup(speedup) < least:
        most = math.floor(start / least * 100) / 100
        raise InputError(
            f"`speedup` is {speedup:g}, but {least * 1e3:.3g} of {start * 1e3:.3g} ms are left where every "
            f"layer that can be pruned is zero; {most:g} at most is expected"
        )


def format_trial(trial: Trial, speedup: float) -> str:
    """Return a line: the speedup that was asked for, the predicted one and the measured one."""
    return (
        f"Speedup: {speedup:g} asked, {trial.predicted:.2f} predicted, {trial.measured:.2f} measured "
        f"(dense {trial.dense.median:.1f} ms, pruned {trial.pruned.median:.1f} ms; "
        f"{trial.amount:.1%} of the time pruned)"
    )


def _warning(best: Trial, trials: Sequence[Trial], speedup: float) -> str:
    dense = [trial.dense.median for trial in trials]
    return (
        f"WARNING: the nearest measured speedup is {best.measured:.2f}, not {speedup:g}; the dense network "
        f"took {min(dense):.1f} to {max(dense):.1f} ms; measure on a machine that runs nothing else"
    )


def _try(pruner: Pruner, method: Method, price: float, whole: float, measure: Measure) -> Trial:
    amount = max(0.0, 1 - price / whole)
    network = pruner.prune(method, amount)
    dense, pruned = measure([pruner.network, network])
    predicted = pruner.price() / pruner.price(network)
    return Trial(network, amount, price, predicted, dense, pruned)


def _secant(one: tuple[float, float], other: tuple[float, float], wanted: float) -> float:
    """Return where the line through two points (place, value) has the wanted value."""
    rise, run = other[1] - one[1], other[0] - one[0]
    return other[0] if not rise else other[0] + (wanted - other[1]) * run / rise
