"""Masks by magnitude, that they are torch's, and that they are made permanent."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import sparsity
from sparsity import InputError, count_sparsity, layer_sparsity
from sparsity.pruning import amounts
from sparsity.pruning.apply import apply_masks
from sparsity.pruning.magnitude import magnitude_masks
from sparsity.pruning.patterns import Block, Pattern

keep_counts = partial(amounts.keep_counts, depthwise=True)
"""Depthwise layers as others, here and in prune. test_depthwise.py has networks in which they stay dense."""
prune = partial(sparsity.prune, depthwise=True)


def small() -> nn.Sequential:
    """A stem, a grouped and a depthwise layer, and one weight."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 4, 1, bias=False),
        nn.Conv2d(1, 1, 1),
    )


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]


def zeros(network: nn.Module) -> list[int]:
    return [layer.zeros for layer in layer_sparsity(network)]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("amount", [0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_masks_are_torchs_where_no_weights_are_equal(scope, amount):
    ours, torchs = small(), prune(small(), amount, scope)
    apply_masks(ours, magnitude_masks(ours, keep_counts(ours, amount, scope)))
    for mine, its in zip(weights(ours), weights(torchs), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("amount", [0.01, 0.3, 0.5, 0.9])
def test_layer_scope_counts_are_torchs_among_equal_weights(amount):
    conv = nn.Conv2d(4, 5, 3)
    nn.init.constant_(conv.weight, -0.5)
    mask = magnitude_masks(conv, keep_counts(conv, amount, "layer"))[""]
    torch_prune.l1_unstructured(conv, "weight", amount)
    assert mask.sum() == conv.weight_mask.sum()


def test_global_masks_are_torchs_among_equal_weights():
    ours, torchs = small(), small()
    for conv in (*ours, *torchs):
        conv.weight.data = conv.weight.data.mul(4).round()
    apply_masks(ours, magnitude_masks(ours, keep_counts(ours, 0.7, "global")))
    for mine, its in zip(weights(ours), weights(prune(torchs, 0.7, "global")), strict=True):
        assert torch.equal(mine, its)


def test_masks_keep_the_largest_and_leave_unnamed_layers_out():
    masks = magnitude_masks(small(), {"0": 100, "3": 0})
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"0": 100, "3": 0}
    magnitudes = small()[0].weight.abs()
    assert magnitudes[masks["0"]].min() >= magnitudes[~masks["0"]].max()


def test_applied_masks_are_permanent_in_place_and_keep_the_rest():
    network = small()
    masks = magnitude_masks(network, keep_counts(network, 0.5, "lamp"))
    assert apply_masks(network, masks) is network
    assert not torch_prune.is_pruned(network)
    assert sorted(network.state_dict()) == sorted(small().state_dict())
    for name, mask in masks.items():
        before, after = small()[int(name)].weight, network[int(name)].weight
        assert torch.equal(after, before * mask)
        assert isinstance(after, nn.Parameter)


def test_any_memory_layout_is_pruned_alike():
    network = prune(small().to(memory_format=torch.channels_last), 0.4, "lamp", pattern="2:4")
    for mine, its in zip(weights(network), weights(prune(small(), 0.4, "lamp", pattern="2:4")), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
@pytest.mark.parametrize("amount", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_prune_meets_the_amount_of_all_weights(scope, amount):
    counted = count_sparsity(prune(small(), amount, scope))
    assert counted.conv_zeros == round(amount * counted.conv_weights)


@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk"])
def test_prune_keeps_what_it_is_told_to(scope):
    assert zeros(prune(small(), 0.4, scope, keep=["0", "[4]"]))[0] == 0


@pytest.mark.parametrize("pattern", ["2:4", Pattern(1, 4)], ids=str)
@pytest.mark.parametrize(("scope", "amount"), [("layer", 0.8), ("global", 0.4), ("lamp", 0.45), ("erk", 0.4)])
def test_prune_follows_a_pattern(pattern, scope, amount):
    network = prune(small(), amount, scope, pattern=pattern)
    n = 2 if pattern == "2:4" else 1
    stem, grouped, depthwise, plain, single = weights(network)
    assert all(w.count_nonzero() == w.numel() for w in (stem, depthwise, single)), "these don't fit"
    assert grouped.count_nonzero() < grouped.numel()
    for weight in (grouped, plain):
        alive = weight.unflatten(1, (-1, 4)).count_nonzero(dim=2)
        assert alive.max() <= n or weight.count_nonzero() == weight.numel()


@pytest.mark.parametrize("pattern", ["pair", Block(4)], ids=str)
@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk"])
@pytest.mark.parametrize("amount", [0.1, 0.5, 0.9])
def test_prune_leaves_whole_blocks(pattern, scope, amount):
    network = prune(small(), amount, scope, pattern=pattern)
    size = 2 if pattern == "pair" else 4
    _, grouped, _, plain, _ = weights(network)
    for weight in (grouped, plain):
        assert set(weight.unflatten(1, (-1, size)).count_nonzero(dim=2).flatten().tolist()) <= {0, size}
    if scope != "layer":
        counted = count_sparsity(network)
        assert 0 <= counted.conv_zeros - round(amount * counted.conv_weights) < size


@pytest.mark.parametrize("word", ["", "unstructured"])
def test_no_pattern_is_plain_pruning(word):
    for mine, its in zip(
        weights(prune(small(), 0.4, pattern=word)), weights(prune(small(), 0.4)), strict=True
    ):
        assert torch.equal(mine, its)


def test_wrong_words_are_refused():
    with pytest.raises(InputError, match="`pattern` is '2to4'"):
        prune(small(), 0.5, pattern="2to4")
    with pytest.raises(InputError, match=r"`keep` 'head' matches no Conv2d; a name such as 0, 1, 4"):
        prune(small(), 0.5, keep=["head"])


def test_a_network_that_cannot_be_pruned_is_left_alone():
    network = small()
    with pytest.raises(InputError):
        prune(network, 0.99, "global", keep=["1"])
    assert zeros(network) == [0] * 5


def test_a_weight_that_is_no_number_is_refused():
    network = small()
    network[0].weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="NaN"):
        prune(network, 0.5, "lamp")
