"""Pruning to a speedup: with a machine that keeps its word, one that does not, and what is refused."""

import math

import pytest
import torch
from torch import nn

from sparsity import InputError, Method, PriceCurve, Pruner, count_sparsity
from sparsity.timing.latency import Latency
from sparsity.timing.speedup import prune_to_speedup

METHOD = Method("l1", "global", "latency")
CURVE = PriceCurve((0.0, 0.5, 1.0), (0.002, 0.006, 0.010))
"""The seconds of each of two layers."""


@pytest.fixture
def pruner() -> Pruner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(20, 50, 1), nn.Conv2d(50, 20, 1)).requires_grad_(False)
    return Pruner(network, price_curves=lambda _network: {"0": CURVE, "1": CURVE})


def machine(pruner, power=1.0):
    """Measures latencies: the predicted ones, as shares of the dense one, to a power."""

    def measure(networks):
        shares = [pruner.price(network) / pruner.price() for network in networks]
        return [Latency(20 * share**power, 0, 0, 9) for share in shares]

    return measure


def test_where_the_prediction_holds_nothing_is_corrected(pruner):
    said = []
    found = prune_to_speedup(pruner, METHOD, 2, machine(pruner), said.append)
    assert found.predicted == pytest.approx(2, rel=0.01)
    assert found.measured == pytest.approx(2, rel=0.01)
    assert found.amount == pytest.approx(0.5)
    assert count_sparsity(found.network).conv == pytest.approx(0.625, abs=0.01)
    assert said == [
        "Speedup: 2 asked, 2.00 predicted, 2.00 measured (dense 20.0 ms, pruned 10.0 ms; 50.0% of the time "
        "pruned)"
    ]


@pytest.mark.parametrize("power", [0.8, 1.25])
def test_what_the_machine_gives_otherwise_is_corrected(pruner, power):
    said = []
    found = prune_to_speedup(pruner, METHOD, 2, machine(pruner, power), said.append)
    assert found.measured == pytest.approx(2, rel=0.03)
    assert found.predicted == pytest.approx(2 ** (1 / power), rel=0.03)
    assert 2 <= len(said) <= 3


def test_a_machine_that_never_fits_is_asked_three_times(pruner):
    asked = []

    def measure(networks):
        asked.append(networks)
        return [Latency(10, 0, 0, 9), Latency((8, 9.5, 9)[len(asked) - 1], 0, 0, 9)]

    said = []
    found = prune_to_speedup(pruner, METHOD, 2, measure, said.append)
    assert len(asked) == 3
    assert said[-1].startswith(
        "WARNING: the nearest measured speedup is 1.25, not 2; the dense network took 10.0"
    )
    assert found.measured == 10 / 8, "the nearest of the trials"


def test_a_machine_without_any_speedup(pruner):
    found = prune_to_speedup(pruner, METHOD, 2, lambda _networks: [Latency(10, 0, 0, 9)] * 2)
    assert found.measured == 1


def test_zeros_that_a_network_has_already_count(pruner):
    half = pruner.prune(METHOD, 0.4)
    again = Pruner(half, price_curves=lambda _network: pruner.price_curves())
    found = prune_to_speedup(again, METHOD, 1.5, machine(again))
    assert found.measured == pytest.approx(1.5, rel=0.01)
    assert found.amount == pytest.approx(1 - 0.6 / 1.5, abs=0.01)


def test_the_largest_speedup_can_be_asked_for(pruner):
    found = prune_to_speedup(pruner, METHOD, 5, machine(pruner))
    assert found.measured == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("speedup", [1, 0.5, 0, -2, math.nan, math.inf, "2", None])
def test_no_speedup(pruner, speedup):
    with pytest.raises(InputError, match=r"`speedup` is .*; a number above 1 is expected, such as 1.5"):
        prune_to_speedup(pruner, METHOD, speedup, machine(pruner))


def test_a_speedup_that_is_out_of_reach(pruner):
    words = r"`speedup` is 6, but 4 of 20 ms are left where every layer that can be pruned is zero; 5 at most"
    with pytest.raises(InputError, match=words):
        prune_to_speedup(pruner, METHOD, 6, machine(pruner))
