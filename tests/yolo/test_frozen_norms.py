"""Batch norms that keep their statistics during training."""

import copy

import pytest
import torch
from torch import fx, nn

from sparsity.yolo.blocks import Conv


@pytest.mark.parametrize(
    ("bias", "groups"), [(False, 1), (True, 1), (False, 4)], ids=["no bias", "bias", "depthwise"]
)
def test_a_frozen_norm_is_folded_with_the_same_gradients(bias, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, padding=1, bias=bias, groups=groups)
    norm = nn.BatchNorm2d(8)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2.0)
    block = Conv(conv, nn.SiLU(), norm).double().train()
    block.bn.eval()
    plain = nn.Sequential(copy.deepcopy(block.conv), copy.deepcopy(block.bn), nn.SiLU())
    before = {name: value.clone() for name, value in block.bn.named_buffers()}
    x = torch.rand(2, 4, 6, 6, dtype=torch.float64)
    weights = torch.rand(2, 8, 6, 6, dtype=torch.float64)
    calls = []
    block.bn.register_forward_hook(lambda *_: calls.append(1))

    ours, theirs = block(x), plain(x)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()

    assert not calls, "the norm is not called by itself"
    torch.testing.assert_close(ours, theirs)
    grads = zip(block.named_parameters(), plain.parameters(), strict=True)
    for (name, one), other in grads:
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    assert all(torch.equal(value, before[name]) for name, value in block.bn.named_buffers())


@pytest.mark.parametrize("how", ["training", "no gradients", "evaluated"])
def test_other_norms_run_as_they_are(how):
    block = Conv(nn.Conv2d(3, 4, 1, bias=False), nn.SiLU(), nn.BatchNorm2d(4)).train()
    if how != "training":
        block.bn.eval()
    if how == "evaluated":
        block.requires_grad_(False)
    calls = []
    block.bn.register_forward_hook(lambda *_: calls.append(1))
    with torch.set_grad_enabled(how != "no gradients"):
        block(torch.rand(2, 3, 4, 4))
    assert calls == [1]


def test_a_traced_graph_has_the_norm():
    block = Conv(nn.Conv2d(3, 4, 1, bias=False), nn.SiLU(), nn.BatchNorm2d(4)).eval()
    assert block.conv.weight.requires_grad
    called = [node.target for node in fx.symbolic_trace(block).graph.nodes if node.op == "call_module"]
    assert called == ["conv", "bn", "act"]
