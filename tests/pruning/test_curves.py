"""What an error in a channel costs, what pruning a layer costs, and amounts that follow from it."""

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import InputError
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.channel_costs import channel_costs
from sparsity.pruning.curves import GRID, Curve, measure_curves
from sparsity.pruning.patterns import Block, Pattern


class TwoOutputs(nn.Module):
    """A stem, and two heads of which one may not count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.second = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = nn.functional.silu(self.stem(x), inplace=True)
        return [self.first(y), self.second(y)]


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    return [torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def alike(outputs):
    return [torch.ones_like(output) for output in outputs]


def only_first(outputs):
    return [torch.ones_like(outputs[0]), torch.zeros_like(outputs[1])]


def test_costs_of_a_linear_network_are_products_of_its_weights():
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 1, 1)).eval()
    images = torch.rand(2, 2, 4, 5)
    found = channel_costs(_Listed(network), [images], lambda y: [torch.full_like(y[0], 0.5)])
    # One output channel: the random signs square to 1. 20 cells an image, each weighed by a half.
    row = network[1].weight[0, :, 0, 0]
    assert torch.allclose(found["inner.0"], 20 * 0.5 * torch.outer(row, row)[None])
    assert torch.allclose(found["inner.1"], torch.tensor([[[20 * 0.5]]]))


def test_costs_of_grouped_channels_are_one_block_a_group():
    network = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 1, 1)).eval()
    found = channel_costs(_Listed(network), [torch.rand(1, 4, 2, 3)], alike)["inner.0"]
    rows = network[1].weight[0, :, 0, 0].view(2, 3, 1)
    assert torch.allclose(found, 6 * rows @ rows.mT)


class _Listed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.inner(x)]


def test_sensitivities_leave_the_network_as_it_was(batches):
    network = TwoOutputs().eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    channel_costs(network, batches, alike)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_head_that_does_not_count_costs_nothing_and_goes_first(batches):
    network = TwoOutputs().eval()
    sensitivities = channel_costs(network, batches, only_first)
    assert sensitivities["second"].abs().max() == 0
    assert sensitivities["first"].diagonal(dim1=1, dim2=2).min() > 0
    curves = measure_curves(network, batches, sensitivities)
    marginals = {name: curve.marginals() for name, curve in curves.items()}
    counts = keep_counts(network, 0.3, "measured", marginals=marginals)
    total = sum(curve.weights for curve in curves.values())
    assert sum(counts.values()) == total - round(0.3 * total)
    assert counts["second"] <= 0.2 * curves["second"].weights
    assert counts["first"] > 0.9 * curves["first"].weights


def test_costs_rise_with_sparsity(batches):
    network = TwoOutputs().eval()
    curves = measure_curves(network, batches, channel_costs(network, batches, alike))
    assert list(curves) == ["stem", "first", "second"]
    for curve in curves.values():
        assert len(curve.costs) == len(GRID)
        assert all(0 < low < high for low, high in zip(curve.costs, curve.costs[1:], strict=False))


def test_curves_of_blocks_cost_more_where_blocks_fit(batches):
    network = TwoOutputs().eval()
    costs = channel_costs(network, batches, alike)
    free, n_of_m, pairs, quads = (
        measure_curves(network, batches, costs, pattern=one)
        for one in (None, Pattern(2, 4), Block(2), Block(4))
    )
    assert n_of_m == free
    assert pairs["stem"] == quads["stem"] == free["stem"], "three channels"
    for name in ("first", "second"):
        for curves in zip(free[name].costs[:-1], pairs[name].costs, quads[name].costs, strict=False):
            assert curves == tuple(sorted(curves))


def test_marginals_fall_and_add_up_to_the_costs():
    curve = Curve(1000, tuple(sparsity**2 * 10.0 ** (2 * sparsity) for sparsity in GRID))
    falling = curve.marginals()
    assert len(falling) == 1000
    assert (np.diff(falling) <= 0).all()
    for sparsity, cost in zip(GRID, curve.costs, strict=True):
        assert falling[::-1][: round(1000 * sparsity)].sum() == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize("keep", [(), ("first",)])
def test_measured_amounts_hold_with_layers_kept(batches, keep):
    network = TwoOutputs().eval()
    curves = measure_curves(network, batches, channel_costs(network, batches, alike))
    marginals = {name: curve.marginals() for name, curve in curves.items()}
    counts = keep_counts(network, 0.4, "measured", keep=keep, marginals=marginals)
    total = sum(curve.weights for curve in curves.values())
    assert sum(counts.values()) == total - round(0.4 * total)
    assert all(counts[name] == curves[name].weights for name in keep)


def test_measured_amounts_need_measurements():
    with pytest.raises(InputError, match=r"`scope` 'measured' needs calibration images; .*`calibration`"):
        keep_counts(TwoOutputs(), 0.4, "measured")
