"""Prices by density."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import InputError, Method, Pruner
from sparsity.pruning.price_curves import (
    LayerPrice,
    PriceCurve,
    as_record,
    digest,
    per_weight,
    price_of,
    read_record,
)

CURVE = PriceCurve((0, 0.5, 1), (2, 6, 8))


def test_linear_between_the_points():
    assert CURVE.at(np.array([0, 0.25, 0.5, 0.75, 1])).tolist() == [2, 4, 6, 7, 8]


def test_a_price_that_falls_is_noise():
    assert PriceCurve((0, 0.5, 1), (2, 6, 5)).at(np.array([0.5, 0.8, 1])).tolist() == [6, 6, 6]


def test_per_weight_is_proportional():
    assert LayerPrice(per_weight(3, 8), 8).at(np.arange(9)).tolist() == [3.0 * n for n in range(9)]


@pytest.mark.parametrize(
    ("price", "count"),
    [
        pytest.param(1.9, 2, id="none fits: the lowest"),
        pytest.param(6.0, 5, id="a whole price"),
        pytest.param(6.39, 5, id="not yet the next"),
        pytest.param(6.4, 6, id="the next"),
        pytest.param(9.0, 9, id="all fit: the highest"),
    ],
)
def test_the_most_weights_for_a_price(price, count):
    assert LayerPrice(CURVE, 10).most_within(price + 1e-12, 2, 9) == count


@pytest.mark.parametrize(
    ("densities", "costs", "words"),
    [
        pytest.param((0, 0.5), (1, 2), "`densities` is", id="not to 1"),
        pytest.param((0.1, 1), (1, 2), "`densities` is", id="not from 0"),
        pytest.param((0, 0.5, 0.5, 1), (1, 2, 3, 4), "rising numbers from 0 to 1", id="twice"),
        pytest.param((), (), "`densities` is", id="none"),
        pytest.param((0, 1), (1,), "`costs` holds 1 numbers; 2 are expected", id="too few costs"),
        pytest.param((0, 1), (-1, 1), "0 or more are expected", id="negative"),
        pytest.param((0, 1), (0, float("nan")), "finite numbers", id="not a number"),
    ],
)
def test_refused(densities, costs, words):
    with pytest.raises(InputError, match=words):
        PriceCurve(densities, costs)


@pytest.fixture
def pair() -> nn.Module:
    """Two layers of 8 weights, half of the first one's are zero."""
    layers = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        layers[0].weight.fill_(1)[:2] = 0
        layers[1].weight.fill_(1)
    return layers


def test_the_price_of_a_network_is_that_of_its_nonzeros(pair):
    assert price_of(pair, {"0": CURVE, "1": PriceCurve((0, 1), (1, 3))}) == 6 + 3


def test_a_record_is_read_as_it_was_written():
    curves = {"0": CURVE, "1": PriceCurve((0, 1), (1, 3))}
    assert read_record(json.loads(json.dumps(as_record(curves)))) == curves


@pytest.mark.parametrize(
    "record", [None, [], "x", {"0": 1}, {"0": {}}, {"0": {"densities": [0, 1], "costs": [1]}}]
)
def test_a_damaged_record_is_none(record):
    assert read_record(record) is None


def test_digests_differ_where_curves_do():
    assert digest({"0": CURVE}) == digest({"0": CURVE})
    assert digest({"0": CURVE}) != digest({"0": PriceCurve((0, 0.5, 1), (2, 6, 8.1))})


def test_a_pruner_asks_for_curves_once_and_names_them_in_its_identity(pair):
    asked = []

    def measure(network):
        asked.append(network)
        return {"0": CURVE, "1": CURVE}

    pruner = Pruner(pair, price_curves=measure, keep=["1"])
    assert pruner.price() == 6 + 8
    assert pruner.least_price() == 2 + 8
    pruner.prune(Method("l1", "global", "latency"), 0.3)
    assert len(asked) == 1
    assert "price_curves" in pruner.identity([Method("l1", "global", "latency")])
    assert "price_curves" not in pruner.identity([Method("l1", "global", "flops")])
