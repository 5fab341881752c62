"""What --criterion, --scope and --budget mean together."""

import pytest

from sparsity.base.errors import InputError
from sparsity.commands.method_lists import parse_methods
from sparsity.pruning.method import Method


@pytest.mark.parametrize(
    ("criteria", "scopes", "labels"),
    [
        pytest.param("l1", "", ["l1"], id="nothing said: per layer"),
        pytest.param("l1", "layer,global", ["l1", "l1 global"], id="scopes alone"),
        pytest.param("l1", "lamp,erk", ["lamp", "erk"], id="scopes that are criteria as well"),
        pytest.param("l1,lamp,obs", "", ["l1", "lamp", "obs"], id="each with its own scope"),
        pytest.param("obs", "layer,measured", ["obs layer", "obs"], id="scopes of obs"),
        pytest.param("l1,obs", "layer,global", ["l1", "l1 global", "obs layer", "obs global"], id="both"),
        pytest.param("l1", "measured", ["measured"], id="magnitude by what layers cost"),
        pytest.param("lamp, lamp,l1,l1", "", ["lamp", "l1"], id="each once, blanks are no matter"),
    ],
)
def test_methods(criteria, scopes, labels):
    assert [method.label for method in parse_methods(criteria, scopes)] == labels


@pytest.mark.parametrize(
    ("criteria", "scopes", "words"),
    [
        pytest.param("l2", "", "--criterion: 'l2' is none of l1, obs, lamp, erk", id="unknown criterion"),
        pytest.param("", "", "--criterion: '' is none of", id="empty"),
        pytest.param("l1,", "", "--criterion: '' is none of", id="an empty part"),
        pytest.param("L1", "", "'L1' is none of", id="capitals"),
        pytest.param("l1", "model", "--scope: 'model' is none of layer, global", id="unknown scope"),
        pytest.param("l1", "layer,", "--scope: '' is none of", id="an empty scope"),
        pytest.param("lamp", "global", "--scope is 'global', but --criterion lamp", id="a scope for lamp"),
        pytest.param("l1,erk", "layer", "leave out --scope", id="a scope for erk among others"),
    ],
)
def test_refused(criteria, scopes, words):
    with pytest.raises(InputError, match=words):
        parse_methods(criteria, scopes)


@pytest.mark.parametrize(("names", "words"), [(("l2", "layer"), "criterion is 'l2'"), (("l1", "x"), "scope")])
def test_no_such_method(names, words):
    with pytest.raises(InputError, match=words):
        Method(*names)


def test_what_needs_images():
    methods = parse_methods("l1,lamp,erk,obs") + parse_methods("l1,obs", "layer,measured")
    needy = {method.label for method in methods if method.needs_calibration}
    assert needy == {"obs", "obs layer", "measured"}


def test_labels_tell_all_methods_apart():
    methods = parse_methods("l1,obs", "layer,global,lamp,erk,measured")
    assert len({method.label for method in methods}) == len(methods) == 10


def test_budgets():
    methods = parse_methods("l1,obs", budgets="weights, flops,weights")
    assert [method.label for method in methods] == ["l1", "obs", "obs, flops"], (
        "layer by layer, both are the same"
    )
    with pytest.raises(InputError, match="--budget: 'time' is none of weights, flops, latency"):
        parse_methods("l1", budgets="time")
