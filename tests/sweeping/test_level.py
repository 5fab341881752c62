"""Which levels a sweep has, in which order."""

import numpy as np
import pytest

from sparsity.errors import InputError
from sparsity.sweeping.level import DENSE, Level, plan


@pytest.mark.parametrize(
    ("amounts", "scopes", "keys"),
    [
        pytest.param([], ["layer"], ["dense"], id="nothing but the baseline"),
        pytest.param([0.3, 0.1], ["layer"], ["dense", "layer_0.1", "layer_0.3"], id="rising"),
        pytest.param([0.0, 0.3, 0.3], ["global"], ["dense", "global_0.3"], id="each once"),
        pytest.param([0.5], ["global", "layer"], ["dense", "global_0.5", "layer_0.5"], id="two scopes"),
        pytest.param([0.1 + 0.2], ["layer"], ["dense", "layer_0.3"], id="no floating-point dust"),
        pytest.param(
            np.linspace(0.1, 0.3, 3), ["layer"], ["dense", "layer_0.1", "layer_0.2", "layer_0.3"], id="numpy"
        ),
    ],
)
def test_plan(amounts, scopes, keys):
    levels = plan(amounts, scopes)
    assert [level.key for level in levels] == keys
    assert levels[0] == DENSE


@pytest.mark.parametrize(
    ("amounts", "scopes", "words"),
    [
        pytest.param([1.0], ["layer"], "sparsity is 1.0", id="all"),
        pytest.param([-0.1], ["layer"], "sparsity is -0.1", id="negative"),
        pytest.param([1 - 1e-12], ["layer"], "sparsity is 1.0", id="all, once rounded"),
        pytest.param([1e-12], ["layer"], "too small to be told from 0", id="none, once rounded"),
        pytest.param([float("nan")], ["layer"], "sparsity is nan", id="nan"),
        pytest.param([0.1], ["model"], "'model' is none of layer, global", id="unknown scope"),
        pytest.param([0.1], [""], "'' is none of", id="empty scope"),
        pytest.param([0.1], [], "--scope is empty", id="no scope"),
    ],
)
def test_refused(amounts, scopes, words):
    with pytest.raises(InputError, match=words):
        plan(amounts, scopes)


def test_keys_tell_levels_apart():
    assert Level("layer", 0.25).key != Level("global", 0.25).key
