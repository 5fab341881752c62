"""The update of Optimal Brain Surgeon: exact where the exact answer is known, never worse than magnitude."""

import copy
import itertools

import pytest
import torch
from torch import nn

from sparsity import InputError, count_sparsity
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.apply import apply_masks
from sparsity.pruning.least_squares import find_support, refit
from sparsity.pruning.magnitude import magnitude_masks
from sparsity.pruning.moments import Moments, gather_moments
from sparsity.pruning.obs import ObsSettings, prune_layer, prune_obs, unit_diagonal
from sparsity.pruning.patterns import Block, Pattern, parse_pattern, project, select

EXACT = ObsSettings(damping=0.0, pull=0.0)


def correlated(k: int, seed: int = 0, groups: int = 1) -> torch.Tensor:
    """A covariance [groups, k, k] with strong correlations."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, k, k, generator=generator, dtype=torch.float64)
    return mixing @ mixing.mT / k + 0.05 * torch.eye(k, dtype=torch.float64)


def plain(xx: torch.Tensor) -> Moments:
    """Moments of a layer behind nothing that was pruned, with means of zero."""
    mean = torch.zeros(xx.shape[:2], dtype=xx.dtype)
    return Moments(xx, xx.clone(), mean, mean)


def linear(rows: int, k: int, groups: int = 1, seed: int = 1) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(k * groups, rows * groups, 1, groups=groups).double().requires_grad_(False)


def exact(target: torch.Tensor, h: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """The best row [k] whose zeros are outside keep, by the normal equations."""
    best = torch.zeros_like(target)
    best[keep] = torch.linalg.solve(h[keep][:, keep], (h @ target)[keep])
    return best


def lost(weights: torch.Tensor, dense: torch.Tensor, xx: torch.Tensor) -> float:
    """The outputs' squared error, of one group's weights [rows, k]."""
    away = weights - dense
    return float(((away @ xx) * away).sum())


def test_refit_is_the_exact_least_squares_solution():
    xx = correlated(12)
    target = torch.randn(1, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    support = select(target.abs(), 27)
    found = refit(target, xx, support, target)
    for row in range(5):
        expected = exact(target[0, row], xx[0], support[0, row])
        assert torch.allclose(found[0, row], expected, atol=1e-9)


def test_a_layer_gets_the_exact_solution_of_its_support():
    conv, xx = linear(3, 8), correlated(8)
    dense = conv.weight.flatten(1).clone()
    prune_layer(conv, plain(xx), 12, None, EXACT)
    weights = conv.weight.flatten(1)
    assert int((weights != 0).sum()) == 12
    for row in range(3):
        expected = exact(dense[row], xx[0], weights[row] != 0)
        assert torch.allclose(weights[row], expected, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_the_support_is_close_to_the_best_of_all(seed):
    xx, target = correlated(8, seed), torch.randn(1, 1, 8, dtype=torch.float64)
    unit = xx.diagonal(dim1=1, dim2=2).sqrt()
    h, scaled = xx / (unit[:, :, None] * unit[:, None]), target * unit[:, None]
    support = find_support(scaled, h, lambda scores: select(scores, 4))
    found = lost(refit(scaled, h, support, scaled)[0], scaled[0], h[0])
    choices = (torch.tensor(c) for c in itertools.combinations(range(8), 4))
    masks = (torch.zeros(8, dtype=torch.bool).index_fill(0, c, True) for c in choices)
    every = sorted(lost(exact(scaled[0, 0], h[0], m)[None], scaled[0], h[0]) for m in masks)
    assert found <= every[3] + 1e-12, f"{found} of {every[:5]}"


def test_refit_with_channel_costs_is_the_exact_solution_of_all_rows_together():
    h, c = correlated(4), correlated(3, seed=5)
    target = torch.randn(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    support = select(target.abs(), 7)
    found = refit(target, h, support, target, c, steps=100)
    # The rows as one vector: its covariance is the Kronecker product.
    expected = exact(target.flatten(), torch.kron(c[0], h[0]), support.flatten())
    assert torch.allclose(found.flatten(), expected, atol=1e-8)


def test_channels_that_cost_alike_and_apart_change_nothing():
    h, target = correlated(12), torch.randn(1, 5, 12, dtype=torch.float64)
    alike = torch.eye(5, dtype=torch.float64)[None]
    plain_one, with_costs = (find_support(target, h, lambda s: select(s, 20), c) for c in (None, alike))
    assert torch.equal(plain_one, with_costs)


@pytest.mark.parametrize("seed", range(4))
def test_the_support_by_channel_costs_is_close_to_the_best_of_all(seed):
    units = (unit_diagonal(correlated(4, seed))[0], unit_diagonal(correlated(2, seed + 9))[0])
    h, c = units
    target = torch.randn(1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole, flat = torch.kron(c[0], h[0]), target.flatten()
    found = refit(target, h, find_support(target, h, lambda s: select(s, 4), c), target, c).flatten()
    choices = (torch.tensor(one) for one in itertools.combinations(range(8), 4))
    masks = (torch.zeros(8, dtype=torch.bool).index_fill(0, one, True) for one in choices)
    every = sorted(lost(exact(flat, whole, mask)[None], flat, whole) for mask in masks)
    assert lost(found[None], flat, whole) <= every[3] + 1e-9, f"of {every[:5]}"


def test_weights_of_channels_that_cost_nothing_are_pruned_first():
    conv, xx = linear(4, 8), correlated(8)
    cost = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))[None]
    prune_layer(conv, plain(xx), 16, None, ObsSettings(channel_damping=1e-6), cost)
    kept = conv.weight.flatten(1).count_nonzero(1)
    assert kept.tolist() == [8, 8, 0, 0]


@pytest.mark.parametrize("count", [0, 1, 30, 63, 64])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_is_never_worse_than_plain_magnitude(count, seed):
    conv, xx = linear(8, 8, seed=seed), correlated(8, seed)
    dense = conv.weight.flatten(1).clone()
    magnitude = dense * select(dense.abs(), count)
    prune_layer(conv, plain(xx), count, None, ObsSettings())
    weights = conv.weight.flatten(1)
    assert int((weights != 0).sum()) == count
    assert lost(weights, dense, xx[0]) <= lost(magnitude, dense, xx[0]) + 1e-12


def test_the_bias_takes_up_the_outputs_mean():
    conv, xx = linear(3, 8), correlated(8)
    dense, bias = conv.weight.flatten(1).clone(), conv.bias.clone()
    mean = torch.linspace(-1, 2, 8, dtype=torch.float64)[None]
    prune_layer(conv, Moments(xx, xx.clone(), mean, mean + 0.5), 12, None, ObsSettings())
    now = conv.weight.flatten(1) @ mean[0] + conv.bias
    assert torch.allclose(now, dense @ (mean[0] + 0.5) + bias)


@pytest.mark.parametrize(
    ("conv", "images"),
    [
        pytest.param(nn.Conv2d(4, 6, 1), (2, 4, 5, 5), id="1x1"),
        pytest.param(nn.Conv2d(4, 6, 3, padding=1), (2, 4, 6, 5), id="3x3"),
        pytest.param(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7, 6), id="strided, grouped"),
        pytest.param(nn.Conv2d(4, 4, 3, padding=1, groups=4), (2, 4, 6, 6), id="depthwise"),
        pytest.param(nn.Conv2d(3, 5, 6, stride=2, padding=2), (2, 3, 12, 8), id="stem"),
        pytest.param(nn.Conv2d(4, 6, 1, stride=2, padding=1), (2, 4, 6, 6), id="1x1, padded"),
        pytest.param(nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 8, 8), id="dilated"),
    ],
)
def test_moments_tell_the_outputs_variance(conv, images):
    conv = copy.deepcopy(conv).double().requires_grad_(False)
    x = torch.rand(images, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments = gather_moments(conv, [torch.cat((x, x))], 10**6, torch.Generator())
    weights = conv.weight.flatten(1).unflatten(0, (conv.groups, -1))
    variance = ((weights @ moments.xx) * weights).sum(-1).flatten()
    mean = (weights @ moments.x[:, :, None]).flatten() + conv.bias
    outputs = conv(x)
    assert torch.allclose(variance, outputs.var((0, 2, 3), correction=0))
    assert torch.allclose(mean, outputs.mean((0, 2, 3)))
    assert torch.allclose(moments.xx, moments.yx)


def test_moments_of_few_patches_are_near_those_of_all():
    conv, x = nn.Conv2d(3, 4, 3), torch.rand(4, 3, 40, 40)
    few, every = (
        gather_moments(conv, [torch.cat((x, x))], most, torch.Generator().manual_seed(0))
        for most in (3000, 10**6)
    )
    assert torch.allclose(few.x, every.x, atol=0.05)
    assert torch.allclose(few.xx, every.xx, atol=0.02)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2),
        nn.SiLU(),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.SiLU(),
        nn.Conv2d(8, 4, 1),
    ).eval()


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 16, 16 + 8 * i, generator=generator) for i in range(4)]


@pytest.mark.parametrize(
    ("amount", "pattern"), [(0.0, ""), (0.5, ""), (0.8, ""), (0.0, "2:4"), (0.3, "2:4"), (0.6, "2:4")]
)
def test_a_network_gets_the_zeros_asked_for_and_stays_closer_than_magnitude(batches, amount, pattern):
    wanted = parse_pattern(pattern)
    counts = keep_counts(network(), amount, "lamp", pattern=wanted)
    pruned = prune_obs(network(), counts, batches, pattern=wanted)
    magnitude = apply_masks(network(), magnitude_masks(network(), counts, wanted))
    assert count_sparsity(pruned).conv_zeros == count_sparsity(magnitude).conv_zeros
    images = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        dense = network()(images)
        away, magnitudes = ((n(images) - dense).square().mean() for n in (pruned, magnitude))
    assert away < 0.6 * magnitudes or (amount == 0 and away < 1e-10)
    if wanted and amount >= 0.5:
        for conv in (m for m in pruned if isinstance(m, nn.Conv2d) and wanted.fits(m.weight.shape)):
            kept = (conv.weight != 0).unflatten(1, (-1, wanted.m)).sum(2)
            assert kept.max() <= wanted.n


@pytest.mark.parametrize("pattern", [Block(2), Block(4)], ids=str)
@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk"])
def test_blocks_hold_and_stay_closer_than_magnitude(batches, pattern, scope):
    counts = keep_counts(network(), 0.5, scope, pattern=pattern)
    pruned = prune_obs(network(), counts, batches, pattern=pattern)
    magnitude = apply_masks(network(), magnitude_masks(network(), counts, pattern))
    for name, conv in pruned.named_children():
        if isinstance(conv, nn.Conv2d):
            assert int(conv.weight.count_nonzero()) == counts[name]
            if pattern.fits(conv.weight.shape):
                kept = conv.weight.unflatten(1, (-1, pattern.size)).count_nonzero(2)
                assert set(kept.flatten().tolist()) <= {0, pattern.size}
    images = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        dense = network()(images)
        away, magnitudes = ((n(images) - dense).square().mean() for n in (pruned, magnitude))
    assert away < 0.8 * magnitudes


@pytest.mark.parametrize("pattern", [Block(2), Block(4)], ids=str)
@pytest.mark.parametrize("count", [0, 8, 32, 60, 64])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_in_blocks_is_never_worse_than_magnitude_in_blocks(pattern, count, seed):
    conv, xx = linear(8, 8, seed=seed), correlated(8, seed)
    weight = conv.weight.clone()
    magnitude = (weight * select(weight.abs(), count, pattern)).flatten(1)
    prune_layer(conv, plain(xx), count, pattern, ObsSettings())
    dense, weights = weight.flatten(1), conv.weight.flatten(1)
    assert int((weights != 0).sum()) == count
    assert lost(weights, dense, xx[0]) <= lost(magnitude, dense, xx[0]) + 1e-12


def test_the_support_in_pairs_is_mostly_one_of_the_two_best():
    ranks = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        h = unit_diagonal(correlated(8, seed))[0]
        target, pairs = torch.randn(1, 1, 8, generator=generator).double(), torch.arange(8).view(4, 2)
        support = find_support(target, h, lambda m: project(m.view(1, 8, 1, 1), 4, Block(2)).view_as(m))
        found = lost(refit(target, h, support, target)[0], target[0], h[0])
        choices = (pairs[list(c)].flatten() for c in itertools.combinations(range(4), 2))
        masks = (torch.zeros(8, dtype=torch.bool).index_fill(0, c, True) for c in choices)
        every = [lost(exact(target[0, 0], h[0], m)[None], target[0], h[0]) for m in masks]
        ranks.append(sum(one < found - 1e-9 for one in every))
    assert sum(rank <= 1 for rank in ranks) >= 15, f"ranks {ranks} of 6"


def test_equal_seeds_give_equal_networks(batches):
    counts = keep_counts(network(), 0.5, "layer")
    few = ObsSettings(patches=200)
    first, second = (prune_obs(network(), counts, batches, settings=few) for _ in range(2))
    other = prune_obs(network(), counts, batches, settings=ObsSettings(patches=200, seed=1))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda w: w.zero_(), id="all zero"),
        pytest.param(lambda w: w.fill_(0.25), id="all equal"),
    ],
)
def test_degenerate_weights(batches, spoil):
    given = network()
    with torch.no_grad():
        spoil(given[2].weight)
    counts = keep_counts(given, 0.5, "layer")
    pruned = prune_obs(given, counts, batches)
    assert all(torch.isfinite(p).all() for p in pruned.parameters())
    assert int((pruned[2].weight != 0).sum()) <= counts["2"]


def test_a_dead_input_loses_its_weights_first():
    given = network()
    with torch.no_grad():
        given[0].weight[3], given[0].bias[3] = 0, 0
    counts = keep_counts(given, 0.5, "layer")
    batches = [torch.rand(2, 3, 16, 16) for _ in range(3)]
    pruned = prune_obs(given, counts, batches)
    assert int((pruned[2].weight[:4, 3] != 0).sum()) == 0
    assert all(torch.isfinite(p).all() for p in pruned.parameters())


def test_a_one_weight_layer():
    given = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)).eval()
    pruned = prune_obs(given, {"0": 1, "1": 0}, [torch.rand(1, 1, 4, 4)])
    assert pruned[0].weight.item() != 0
    assert pruned[1].weight.item() == 0


def test_no_calibration_image_is_refused():
    with pytest.raises(InputError, match=r"needs calibration images, .* give some as `calibration`"):
        prune_obs(network(), keep_counts(network(), 0.5, "layer"), [])


def test_a_layer_out_of_the_pattern_is_pruned_freely(batches):
    counts = {"0": 100, "2": 288 // 2, "4": 32, "6": 16}
    pruned = prune_obs(network(), counts, batches, pattern=Pattern(2, 4))
    assert int((pruned[0].weight != 0).sum()) == 100


def test_variances_that_rounding_made_negative_give_finite_weights():
    conv = linear(3, 4)
    xx = torch.diag_embed(torch.tensor([[-1e-9, -2e-9, 0.0, -1e-10]], dtype=torch.float64))
    prune_layer(conv, plain(xx), 6, None, ObsSettings())
    assert conv.weight.isfinite().all()
    assert int((conv.weight != 0).sum()) == 6


def test_a_solution_of_rounding_errors_is_not_taken():
    """Inputs that pruning made constant: what is left of their moments is 1e-14 of the dense ones."""
    torch.manual_seed(0)
    conv = linear(4, 8)
    before = conv.weight.clone()
    noise, dense_inputs = 1e-7 * torch.randn(64, 8).double(), torch.randn(64, 8).double()
    xx, yx = noise.T @ noise / 64, dense_inputs.T @ noise / 64
    mean = torch.zeros(1, 8, dtype=torch.float64)
    prune_layer(conv, Moments(xx[None], yx[None], mean, mean), 16, None, ObsSettings())
    assert int((conv.weight != 0).sum()) == 16
    assert conv.weight.abs().max() <= before.abs().max()
