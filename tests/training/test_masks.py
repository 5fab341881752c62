"""Masks: what is zero stays zero, and is what pruning the fused network prunes."""

import copy

import pytest
import torch

from sparsity.pruning.magnitude import prune
from sparsity.pruning.method import Method
from sparsity.pruning.zeros import count_sparsity
from sparsity.training.masks import nonzero_masks
from sparsity.training.pruning import cubic_amount, prune_unfused
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.yolov5.architectures import yolov5


@pytest.fixture
def unfused() -> Network:
    """A yolov5n of three classes whose batch norms differ from one another."""
    torch.manual_seed(0)
    network = build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.1, 2.0)
            torch.nn.init.uniform_(module.running_var, 0.1, 2.0)
    return network


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_zeros_are_those_of_the_fused_network(unfused, scope):
    expected = prune(fuse(copy.deepcopy(unfused)), 0.4, scope)
    masks = prune_unfused(unfused, Method("l1", scope), 0.4)
    assert masks.zeros == count_sparsity(expected).conv_zeros
    ours = fuse(copy.deepcopy(unfused))
    for name in masks.keep:
        assert torch.equal(ours.get_parameter(name) == 0, expected.get_parameter(name) == 0), name


def test_masked_weights_get_no_gradient_and_no_value(unfused):
    masks = prune_unfused(unfused, Method("l1", "layer"), 0.5)
    unfused.requires_grad_(True)
    for parameter in unfused.parameters():
        parameter.grad = torch.ones_like(parameter)
    masks.apply_to_gradients(unfused)
    with torch.no_grad():
        for parameter in unfused.parameters():
            parameter.add_(1)
    masks.apply(unfused)
    for name, keep in masks.keep.items():
        weight = unfused.get_parameter(name)
        assert torch.equal(weight.grad != 0, keep)
        assert (weight[~keep] == 0).all()
    assert unfused.get_parameter("model.24.m.0.bias").grad.eq(1).all(), "biases are left alone"


def test_zeros_that_are_there_are_kept(unfused):
    prune_unfused(unfused, Method("l1", "layer"), 0.3)
    assert nonzero_masks(unfused).zeros == count_sparsity(unfused).conv_zeros


def test_pruning_further_keeps_every_zero(unfused):
    masks = prune_unfused(unfused, Method("l1", "layer"), 0.3)
    further = prune_unfused(unfused, Method("l1", "layer"), 0.6)
    assert all((further.keep[name] & ~keep).sum() == 0 for name, keep in masks.keep.items())
    assert further.zeros == count_sparsity(unfused).conv_zeros
    assert further.zeros == pytest.approx(0.6 * further.weights, abs=60)


@pytest.mark.parametrize(("progress", "amount"), [(-1, 0.0), (0, 0.0), (0.5, 0.7), (1, 0.8), (2, 0.8)])
def test_cubic_schedule(progress, amount):
    assert cubic_amount(progress, 0.8) == pytest.approx(amount)
