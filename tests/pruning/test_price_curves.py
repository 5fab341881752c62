"""Prices by density."""

import numpy as np
import pytest

from sparsity import InputError
from sparsity.pruning.price_curves import LayerPrice, PriceCurve, per_weight

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
