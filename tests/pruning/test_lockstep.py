"""Batches that go through a network together, halted at every layer."""

import threading

import pytest
import torch
from torch import nn

from sparsity.pruning.lockstep import run_in_lockstep


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 1)).eval()


def convs(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def as_it_is(conv, inputs):
    yield from (conv._conv_forward(x, conv.weight, conv.bias) for x in inputs)


def test_every_layer_is_visited_once_in_order_with_every_batch():
    network, seen = small(), []

    def visit(conv, inputs):
        seen.append((conv, [tuple(x.shape) for x in inputs]))
        yield from (conv._conv_forward(x, conv.weight, conv.bias) for x in inputs)

    run_in_lockstep(network, [torch.rand(2, 3, 8, 8), torch.rand(1, 3, 9, 5)], convs(network), visit)
    assert seen == [
        (network[0], [(2, 3, 8, 8), (1, 3, 9, 5)]),
        (network[2], [(2, 4, 6, 6), (1, 4, 7, 3)]),
    ]


def test_later_layers_see_what_was_changed_before():
    network, seen = small(), {}

    def visit(conv, inputs):
        seen[conv] = [x.clone() for x in inputs]
        with torch.no_grad():
            conv.weight.zero_()
        yield from (conv._conv_forward(x, conv.weight, conv.bias) for x in inputs)

    run_in_lockstep(network, [torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)], convs(network), visit)
    expected = nn.functional.silu(network[0].bias)[None, :, None, None].expand(1, 4, 6, 6)
    assert all(torch.allclose(x, expected) for x in seen[network[2]])


def test_the_network_is_as_it_was_afterwards():
    network, images = small(), torch.rand(1, 3, 8, 8)
    expected = network(images)
    run_in_lockstep(network, [images], convs(network), as_it_is)
    assert torch.equal(network(images), expected)
    assert "forward" not in vars(network[0])


@pytest.mark.parametrize("where", ["network", "visit"])
def test_what_fails_is_raised_and_no_thread_is_left(where):
    network, before = small(), threading.active_count()

    def visit(conv, inputs):
        if where == "visit":
            raise ValueError("no")
        yield from (torch.rand(1, 5, 6, 6) for _ in inputs)

    with pytest.raises(ValueError if where == "visit" else RuntimeError):
        run_in_lockstep(network, [torch.rand(1, 3, 8, 8)] * 2, [network[0]], visit)
    assert threading.active_count() == before
    assert "forward" not in vars(network[0])


def test_no_batch_is_no_work():
    run_in_lockstep(small(), [], [], lambda conv, inputs: iter(()))
