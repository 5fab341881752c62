"""Which weights go, that they stay away, and how they are counted."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from sparsity import InputError, count_sparsity, layer_sparsity, prune


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1, bias=False), nn.Linear(4, 2))


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.3, 0.5, 0.999])
def test_layer_scope_is_torchs_l1_unstructured(amount):
    ours, theirs = prune(small(), amount), small()
    for conv in theirs[:2]:
        torch_prune.remove(torch_prune.l1_unstructured(conv, "weight", float(amount)), "weight")
    for mine, its in zip(weights(ours), weights(theirs), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.3, 0.5, 0.999])
def test_global_scope_is_torchs_global_unstructured(amount):
    ours, theirs = prune(small(), amount, "global"), small()
    pairs = [(conv, "weight") for conv in theirs[:2]]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=float(amount))
    for mine, its in zip(weights(ours), weights(theirs), strict=True):
        assert torch.equal(mine, its)


def test_global_scope_meets_the_amount_among_equal_weights():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False))
    nn.init.constant_(network[0].weight, 0.5)
    assert count_sparsity(prune(network, 0.25, "global")).conv_zeros == 36


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_is_permanent_and_in_place(scope):
    network = small()
    assert prune(network, 0.5, scope) is network
    assert not torch_prune.is_pruned(network)
    assert sorted(network.state_dict()) == sorted(small().state_dict())


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_any_memory_layout_is_pruned_alike(scope):
    network = prune(small().to(memory_format=torch.channels_last), 0.4, scope)
    for mine, its in zip(weights(network), weights(prune(small(), 0.4, scope)), strict=True):
        assert torch.equal(mine, its)


def test_kept_weights_are_untouched_and_are_the_largest():
    before, after = small()[0].weight, prune(small(), 0.4)[0].weight
    kept = after != 0
    assert torch.equal(after[kept], before[kept])
    assert before[kept].abs().min() >= before[~kept].abs().max()


def test_biases_and_other_layers_are_left_alone():
    network = prune(small(), 0.9)
    assert torch.equal(network[0].bias, small()[0].bias)
    assert torch.equal(network[2].weight, small()[2].weight)


def test_counts():
    network = prune(small(), 0.5)
    counted = count_sparsity(network)
    assert (counted.conv_layers, counted.conv_weights, counted.conv_zeros) == (2, 248, 124)
    assert (counted.parameters, counted.parameter_zeros) == (248 + 8 + 8 + 2, 124)
    assert counted.conv == 0.5
    assert counted.model == 124 / 266
    rows = layer_sparsity(network)
    assert [(r.name, r.shape, r.weights, r.zeros) for r in rows] == [
        ("0", (8, 3, 3, 3), 216, 108),
        ("1", (4, 8, 1, 1), 32, 16),
    ]


@pytest.mark.parametrize("amount", [-0.1, 1.0, 1, 30, math.nan, math.inf, "0.3", None, True])
def test_amounts_out_of_range_are_refused(amount):
    with pytest.raises(InputError, match=r"`amount` is .* fraction from 0"):
        prune(small(), amount)


def test_unknown_scope_is_refused():
    with pytest.raises(InputError, match="`scope` is 'model'; one of layer, global"):
        prune(small(), 0.3, "model")


def test_network_without_convolutions_is_refused():
    with pytest.raises(InputError, match="no Conv2d"):
        prune(nn.Sequential(nn.Linear(2, 2)), 0.3)
