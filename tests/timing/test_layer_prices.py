"""The times of layers in the sparse engine, as prices that a pruner takes."""

from functools import partial

import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from sparsity import InputError, Method, Pruner
from sparsity.sparse_engine import stored_times
from sparsity.sparse_engine.layer_times import LayerTimes
from sparsity.timing import layer_prices as module
from sparsity.timing.layer_prices import layer_prices


@pytest.fixture
def asked(monkeypatch):
    """The arguments of measurements: layers take 1 to 3 ms by density, all else together 2 ms."""
    calls = []

    def find(network, imgsz, threads, *, tick):
        calls.append((imgsz, threads))
        tick(1, 2)
        names = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
        return LayerTimes((0.0, 0.5, 1.0), dict.fromkeys(names, (0.001, 0.002, 0.003)), 0.002)

    monkeypatch.setattr(stored_times, "find_layer_times", find)
    return calls


def test_the_sum_of_the_curves_is_the_time_of_the_network(slight, asked):
    curves = layer_prices(slight, imgsz=96, threads=3)
    assert asked == [(96, 3)]
    for density, seconds in ((0, 0.001), (1, 0.003)):
        total = sum(float(curve.at(density)) for curve in curves.values())
        assert total == pytest.approx(0.002 + len(curves) * seconds)


def test_the_threads_are_those_of_torch(slight, asked):
    layer_prices(slight)
    assert asked == [(640, torch.get_num_threads())]


def test_a_share_of_the_whole_time_is_pruned(slight, asked):
    pruner = Pruner(slight, price_curves=partial(layer_prices, imgsz=64))
    pruned = pruner.prune(Method("l1", "global", "latency"), 0.3)
    assert pruner.price(pruned) == pytest.approx(0.7 * pruner.price(), rel=0.01)
    with pytest.raises(
        InputError, match=r"0\.9 leaves 0\.1 of the price .* 0\.42.* is left .*; 0\.57.* at most"
    ):
        pruner.check(Method("l1", "global", "latency"), 0.9)


def test_without_numba(slight, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("sparsity.base.optional.import_module", missing)
    with pytest.raises(InputError, match=r"`budget` latency needs the package numba .*: pip install numba"):
        layer_prices(slight)


def test_a_network_that_the_engine_does_not_run(slight, monkeypatch):
    def refuse(*_args, **_more):
        raise InputError("the sparse engine does not support this; `engine` torch runs this network")

    monkeypatch.setattr(stored_times, "find_layer_times", refuse)
    words = "^`budget` latency: the sparse engine does not support this; another `budget` is expected$"
    with pytest.raises(InputError, match=words):
        layer_prices(slight)
    with pytest.raises(InputError, match="the network is a Conv2d; a detector is expected"):
        module.layer_prices(nn.Conv2d(1, 1, 1))
