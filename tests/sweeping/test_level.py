"""The levels of a sweep, and their order."""

import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.pruning.method import Method
from sparsity.sweeping.level import Level, plan

L1, GLOBAL = Method(), Method("l1", "global")
DENSE = Level(L1, 0.0)


@pytest.mark.parametrize(
    ("amounts", "methods", "keys"),
    [
        pytest.param([], [L1], ["dense"], id="nothing but the baseline"),
        pytest.param([0.3, 0.1], [L1], ["dense", "layer_0.1", "layer_0.3"], id="rising"),
        pytest.param([0.0, 0.3, 0.3], [GLOBAL], ["dense", "global_0.3"], id="each once"),
        pytest.param([0.5], [GLOBAL, L1, GLOBAL], ["dense", "global_0.5", "layer_0.5"], id="two methods"),
        pytest.param([0.5], [Method("obs", "layer")], ["dense", "obs_layer_0.5"], id="obs"),
        pytest.param([0.1 + 0.2], [L1], ["dense", "layer_0.3"], id="no floating-point dust"),
        pytest.param(
            np.linspace(0.1, 0.3, 3), [L1], ["dense", "layer_0.1", "layer_0.2", "layer_0.3"], id="numpy"
        ),
    ],
)
def test_plan(amounts, methods, keys):
    levels = plan(amounts, methods)
    assert [level.key for level in levels] == keys
    assert levels[0] == DENSE


@pytest.mark.parametrize(
    ("amounts", "methods", "words"),
    [
        pytest.param([1.0], [L1], "`amount` is 1.0", id="all"),
        pytest.param([-0.1], [L1], "`amount` is -0.1", id="negative"),
        pytest.param([1 - 1e-12], [L1], "`amount` is 1.0", id="all, once rounded"),
        pytest.param(
            [1e-12], [L1], "`amount` is 1e-12; 0, or at least 1e-09, is expected", id="none, once rounded"
        ),
        pytest.param([float("nan")], [L1], "`amount` is nan", id="nan"),
        pytest.param([0.1], [], "`methods` is empty", id="no method"),
    ],
)
def test_refused(amounts, methods, words):
    with pytest.raises(InputError, match=words):
        plan(amounts, methods)


def test_keys_tell_levels_apart():
    methods = [L1, GLOBAL, Method("obs", "global"), Method("obs", "measured"), Method("l1", "measured")]
    assert len({Level(method, amount).key for method in methods for amount in (0.25, 0.5)}) == 10
