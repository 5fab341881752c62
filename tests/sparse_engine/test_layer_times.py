"""The times of layers: what is made of the clocks' seconds, and the file that keeps them."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from sparsity import count_sparsity
from sparsity.base.errors import InputError
from sparsity.sparse_engine import CompiledNetwork, layer_times, stored_times
from sparsity.sparse_engine.layer_times import (
    DENSITIES,
    Clock,
    LayerTimes,
    at_density,
    measure_layer_times,
    rising_fit,
    seconds_of,
)
from sparsity.sparse_engine.stored_times import find_layer_times

TIMES = LayerTimes((0.0, 0.5, 1.0), {"a": (1.0, 2.0, 3.0)}, 0.5)


@pytest.fixture
def quick(monkeypatch):
    """Few rounds without warm-up, and estimated choices."""
    monkeypatch.setattr(layer_times, "ROUNDS", 2)
    monkeypatch.setattr(layer_times, "WARM_SECONDS", 0.0)
    monkeypatch.setattr(layer_times, "tune", lambda *_args: None)


def test_what_operations_lose_alone_is_taken_off():
    alone = np.array([[5.0, 3.0, 2.0], [5.0, 3.0, 2.0]])
    assert seconds_of([7.0, 7.0], alone).tolist() == pytest.approx([4.0, 2.0, 1.0])


def test_no_operation_takes_less_than_nothing():
    found = seconds_of([6.0], [[8.0, 1.0]])
    assert found.tolist() == pytest.approx([6.0, 0.0])


def test_rounds_that_were_disturbed_count_little():
    alone = [[2.0, 1.0]] * 3 + [[90.0, 80.0]]
    assert seconds_of([3.0, 3.0, 3.0, 200.0], alone).sum() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 3, 2, 4], [1, 2.5, 2.5, 4]),
        ([3, 2, 1], [2, 2, 2]),
        ([2, 2, 1, 5], [5 / 3, 5 / 3, 5 / 3, 5]),
    ],
)
def test_rising_fit_averages_what_falls(numbers, expected):
    assert rising_fit(numbers) == pytest.approx(expected)


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_every_layer_gets_the_density(slight, density):
    with torch.no_grad():
        slight.get_submodule("model.0.conv").weight[:4] = 0  # is filled: it counts as dense
    pruned = at_density(slight, density)
    for name, conv in pruned.named_modules():
        if isinstance(conv, torch.nn.Conv2d):
            kept = int(torch.count_nonzero(conv.weight))
            assert kept == round(density * conv.weight.numel()), name
    assert count_sparsity(slight).conv_zeros == 4 * 3 * 36


def test_the_sum_is_the_time_of_the_whole_network(slight):
    clocks = []
    for density in DENSITIES:
        program = CompiledNetwork(at_density(slight, density), 1).program(64, 64)
        one = Clock(program, None)
        one.whole = [10.0 + density] * 3
        one.alone = [[2.0 + density / len(program.rows)] * len(program.rows)] * 3
        clocks.append(one)
    names = ["model.0.conv", "model.1.conv", "model.2.conv", "model.3.m.0"]
    times = layer_times.layer_times(names, clocks)
    assert list(times.layers) == names
    total = [
        times.rest + sum(layer[place] for layer in times.layers.values()) for place in range(len(DENSITIES))
    ]
    assert total == pytest.approx([10.0 + density for density in DENSITIES], rel=0.05)
    assert 0 < times.rest < 10


def test_a_real_measurement(quick, slight):
    ticks = []
    times = measure_layer_times(slight, 64, 2, tick=lambda done, todo: ticks.append((done, todo)))
    assert times.densities == DENSITIES
    assert set(times.layers) == {n for n, m in slight.named_modules() if isinstance(m, torch.nn.Conv2d)}
    assert all(sorted(one) == [*one] and one[0] >= 0 for one in times.layers.values())
    assert times.rest > 0
    assert ticks == sorted(ticks)
    assert ticks[-1] == (len(DENSITIES) + 2,) * 2


def test_a_network_that_the_engine_does_not_run(block_network, odd_network):
    name, network = odd_network
    if name != "C3TR":
        pytest.skip("one is enough")
    with pytest.raises(InputError, match="the sparse engine does not support"):
        find_layer_times(network, 64, 1)


@pytest.fixture
def measured(monkeypatch):
    """The arguments of measurements, which give TIMES at once."""
    calls = []

    def measure(network, imgsz, threads, **more):
        calls.append((imgsz, threads))
        return TIMES

    monkeypatch.setattr(stored_times, "measure_layer_times", measure)
    return calls


def test_a_second_run_measures_nothing(slight, measured):
    assert find_layer_times(slight, 64, 1) == TIMES
    with torch.no_grad():
        slight.get_submodule("model.0.conv").weight.mul_(2)[:2] = 0
    assert find_layer_times(slight, 64, 1) == TIMES
    assert measured == [(64, 1)]


def test_sizes_threads_and_networks_have_their_own_times(slight, shallow, measured):
    for network, imgsz, threads in ((slight, 64, 1), (slight, 96, 1), (slight, 64, 2), (shallow, 64, 1)):
        find_layer_times(network, imgsz, threads)
    find_layer_times(slight, 64, 1, dtype=torch.bfloat16)
    assert len(measured) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"rest": -1}),
        lambda text: json.dumps(json.loads(text) | {"rest": "x"}),
        lambda text: json.dumps(json.loads(text) | {"layers": {"a": [1]}}),
        lambda text: json.dumps(json.loads(text) | {"layers": {"a": [1, 2, float("nan")]}}),
        lambda text: json.dumps(json.loads(text) | {"densities": [0, 1, 0.5]}),
        lambda text: json.dumps(json.loads(text) | {"densities": []}),
    ],
)
def test_damaged_files_are_measured_again(slight, measured, tmp_path, damage):
    find_layer_times(slight, 64, 1)
    (file,) = tmp_path.glob("cache/sparsity/engine/times-*.json")
    file.write_text(damage(file.read_text()))
    assert find_layer_times(slight, 64, 1) == TIMES
    assert len(measured) == 2
    assert find_layer_times(slight, 64, 1) == TIMES
    assert len(measured) == 2


def test_no_place_to_keep_them_does_no_harm(slight, measured, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find_layer_times(slight, 64, 1) == TIMES
