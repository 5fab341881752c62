"""Allocation by price curves, against all possible allocations."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import InputError, Method, Pruner
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.budgeting import (
    STEPS,
    allocate,
    keep_highest_within,
    proportional_within,
)
from sparsity.pruning.layers import convolutions
from sparsity.pruning.price_curves import LayerPrice, PriceCurve, per_weight, sum_prices


def random_layers(seed: int):
    """Three layers of up to 8 weights: falling losses, and prices that may be flat, steep or not 0 at 0."""
    rng = np.random.default_rng(seed)
    losses, prices, lowest = {}, {}, {}
    for name in "abc":
        size = int(rng.integers(2, 9))
        lowest[name] = int(rng.integers(0, 2))
        losses[name] = np.append(np.cumsum(rng.random(size - lowest[name]))[::-1], 0)
        costs = np.cumsum(rng.integers(0, 4, 4) * rng.integers(0, 2, 4)) + rng.integers(0, 2)
        prices[name] = LayerPrice(PriceCurve((0, 0.3, 0.6, 1), tuple(map(float, costs))), size)
    return losses, prices, lowest


def total_loss(counts, losses, lowest) -> float:
    return sum(float(losses[name][counts[name] - lowest[name]]) for name in losses)


def best_loss(losses, prices, lowest, total: float) -> float:
    """The least loss of all allocations within a total."""
    every = itertools.product(*(range(lowest[n], lowest[n] + len(losses[n])) for n in losses))
    all_counts = (dict(zip(losses, counts, strict=True)) for counts in every)
    return min(total_loss(c, losses, lowest) for c in all_counts if sum_prices(c, prices) <= total)


@pytest.mark.parametrize("seed", range(40))
def test_no_allocation_is_better(seed):
    losses, prices, lowest = random_layers(seed)
    highest = {name: lowest[name] + len(losses[name]) - 1 for name in losses}
    least, most = sum_prices(lowest, prices), sum_prices(highest, prices)
    for share in (0, 0.2, 0.5, 0.8, 1):
        total = least + share * (most - least)
        counts = allocate(losses, prices, lowest, total)
        assert all(lowest[name] <= counts[name] <= highest[name] for name in counts)
        assert sum_prices(counts, prices) <= total + 1e-9
        # Each price can be rounded up by one step.
        rounded = max(least, total - 3 * (total - least) / STEPS)
        assert total_loss(counts, losses, lowest) <= best_loss(losses, prices, lowest, rounded) + 1e-12


def test_what_lies_inside_the_convex_hull_is_found():
    """Layer a has only two useful prices, 0 and 10; b takes the rest, which no multiplier would divide so."""
    losses = {"a": np.array([10.0, 0.0]), "b": np.array([7.0, 6.5, 6.0, 0.0])}
    prices = {
        "a": LayerPrice(per_weight(10, 1), 1),
        "b": LayerPrice(PriceCurve((0, 1 / 3, 1), (0, 4, 12)), 3),
    }
    assert allocate(losses, prices, {"a": 0, "b": 0}, 14.1) == {"a": 1, "b": 1}
    assert allocate(losses, prices, {"a": 0, "b": 0}, 22.1) == {"a": 1, "b": 3}


@pytest.mark.parametrize("seed", range(20))
def test_the_highest_scores_are_kept_in_their_order(seed):
    losses, prices, lowest = random_layers(seed)
    rng = np.random.default_rng(seed)
    scores = {name: np.sort(rng.integers(0, 9, len(loss) - 1))[::-1] for name, loss in losses.items()}
    most = sum_prices({name: lowest[name] + len(one) for name, one in scores.items()}, prices)
    least = sum_prices(lowest, prices)
    total = least + 0.6 * (most - least)
    counts = keep_highest_within(scores, prices, lowest, total)
    assert sum_prices(counts, prices) <= total + 1e-9
    kept = {n: counts[n] - lowest[n] for n in scores}
    free = {n for n in scores if prices[n].curve.at(1.0) <= prices[n].at(lowest[n])}
    assert all(kept[name] == len(scores[name]) for name in free)
    paid = [n for n in scores if n not in free]
    worst = min((scores[n][kept[n] - 1] for n in paid if kept[n]), default=9)
    for name in paid:
        assert (scores[name][kept[name] :] <= worst).all()


def test_proportions_hold_until_a_bound():
    prices = {name: LayerPrice(PriceCurve((0, 0.5, 1), (1, 2, 5)), 100) for name in "ab"}
    bounds = {"a": 0, "b": 10}, {"a": 100, "b": 40}
    # b costs 1.8 at its bound of 40, so a may cost 2.2, which are 53.3 weights.
    assert proportional_within({"a": 1, "b": 2}, prices, *bounds, 4) == {"a": 53, "b": 40}


CURVES = {
    "0": PriceCurve((0, 0.2, 1), (1, 8, 10)),
    "1": PriceCurve((0, 0.5, 1), (0, 1, 9)),
    "2": PriceCurve((0, 1), (2, 4)),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 16, 1)).eval()


def shares(counts) -> list[float]:
    sizes = {name: conv.weight.numel() for name, conv in convolutions(network())}
    return [count / sizes[name] for name, count in counts.items()]


def spent(counts) -> float:
    return sum(float(CURVES[name].at(share)) for name, share in zip(counts, shares(counts), strict=True))


@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk", "measured"])
@pytest.mark.parametrize("amount", [0, 0.1, 0.5, 0.8])
def test_every_scope_meets_the_total(scope, amount):
    layers = network()
    rng = np.random.default_rng(0)
    marginals = {n: np.sort(rng.random(c.weight.numel()))[::-1] for n, c in convolutions(layers)}
    counts = keep_counts(layers, amount, scope, prices=CURVES, marginals=marginals)
    total = (1 - amount) * 23
    assert 0.99 * total < spent(counts) <= total + 1e-9


def test_layer_scope_prunes_the_same_share_of_each_layer():
    found = shares(keep_counts(network(), 0.5, "layer", prices=CURVES))
    assert max(found) - min(found) < 0.01
    kept = keep_counts(network(), 0.5, "layer", prices=CURVES, keep=["2"])
    assert shares(kept)[2] == 1


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(InputError, match=r"sparsity 0.9 leaves 0.1 of the price .* 0.8695 at most"):
        keep_counts(network(), 0.9, "global", prices=CURVES)


def test_numbers_and_curves_go_together():
    layers = network()
    numbers = dict.fromkeys(CURVES, 1)
    linear = {**numbers, "1": per_weight(1, 32 * 32 * 9)}
    ours, theirs = (keep_counts(layers, 0.4, "global", prices=prices) for prices in (linear, numbers))
    assert all(abs(ours[name] - theirs[name]) <= 1 for name in numbers)


@pytest.mark.parametrize("scope", ["layer", "global", "erk"])
def test_a_pruner_asks_for_curves_once(scope):
    asked = []

    def measure(given: nn.Module):
        asked.append(given)
        return CURVES

    layers = network()
    pruner = Pruner(layers, price_curves=measure)
    counts = {}
    for amount in (0.3, 0.5):
        pruned = pruner.prune(Method("l1", scope, "latency"), amount)
        counts = {name: int(conv.weight.count_nonzero()) for name, conv in convolutions(pruned)}
    assert asked == [layers]
    assert 0.99 * 0.5 * 23 < spent(counts) <= 0.5 * 23 + 1e-9


def test_a_pruner_without_curves_is_refused():
    method = Method("l1", "global", "latency")
    with pytest.raises(InputError, match=r"`budget` latency needs the time .* as `price_curves`"):
        Pruner(network()).check(method, 0.5)
    with pytest.raises(InputError, match="`price_curves` gave no curve of 1"):
        Pruner(network(), price_curves=lambda _network: {"0": CURVES["0"]}).check(method, 0.5)
