"""How many weights each layer keeps."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import InputError
from sparsity.pruning import amounts
from sparsity.pruning.amounts import keep_within, round_to_total
from sparsity.pruning.patterns import Block, Pattern, block_size
from sparsity.pruning.price_curves import LayerPrice, PriceCurve

keep_counts = partial(amounts.keep_counts, depthwise=True)
"""Depthwise layers as others. test_depthwise.py has networks in which they stay dense."""
AMOUNTS = (0, 0.01, 0.3, 0.5, 0.9, 0.999)
TWO_OF_FOUR = Pattern(2, 4)


def row(*weights: float) -> nn.Conv2d:
    """A 1x1 convolution of one output channel."""
    conv = nn.Conv2d(len(weights), 1, 1, bias=False)
    conv.weight.data = torch.tensor(weights, dtype=torch.float).view_as(conv.weight)
    return conv


def network(seed: int = 0) -> nn.Sequential:
    """A stem, grouped, depthwise, all-equal, all-zero and one-weight layers beside plain ones."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 3, groups=4),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 8 + seed, 1),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 1, 1),
        nn.Conv2d(1, 1, 1),
        nn.Linear(4, 4),
    )
    nn.init.constant_(layers[4].weight, 0.1)
    nn.init.zeros_(layers[5].weight)
    return layers


def sizes(layers: nn.Module) -> dict[str, int]:
    return {n: m.weight.numel() for n, m in layers.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_total_is_exact(scope, amount, seed):
    layers = network(seed)
    size, counts = sizes(layers), keep_counts(layers, amount, scope)
    assert list(counts) == list(size)
    assert all(0 <= counts[name] <= size[name] for name in size)
    assert sum(counts.values()) == sum(size.values()) - round(amount * sum(size.values()))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_layer_scope_rounds_each_layer_as_torch_does(amount):
    size = sizes(network())
    assert keep_counts(network(), amount, "layer") == {n: s - round(amount * s) for n, s in size.items()}


@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
@pytest.mark.parametrize("amount", [0.01, 0.3, 0.5])
def test_keep_and_caps_hold_and_the_total_stays_exact(scope, amount):
    layers = network()
    size = sizes(layers)
    counts = keep_counts(layers, amount, scope, keep=["0"], caps={"[23]": 0.25, "3": 0.5, "6": 0})
    assert counts["0"] == size["0"]
    assert counts["2"] >= 0.75 * size["2"]
    assert counts["3"] >= 0.75 * size["3"], "of two caps the smaller"
    assert counts["6"] == 1
    assert sum(counts.values()) == sum(size.values()) - round(amount * sum(size.values()))


def test_layer_scope_leaves_kept_layers_out_and_stops_at_caps():
    counts = keep_counts(network(), 0.5, "layer", keep=["0"], caps={"3": 0.29})
    assert (counts["0"], counts["3"], counts["4"]) == (432, 128 - 37, 32)


def test_a_cap_is_not_lost_to_floating_point():
    layers = nn.Sequential(row(*range(1, 101)), row(*range(101, 201)))
    assert keep_counts(layers, 0.3, "global", caps={"0": 0.29}) == {"0": 71, "1": 69}


@pytest.mark.parametrize(
    ("zeros", "counts"),
    [
        # LAMP scores: 1/14, 4/13, 9/9 and, for equal weights by index, 100/600, 100/500, 400/400.
        pytest.param(0, (3, 3), id="dense"),
        pytest.param(1, (2, 3), id="1/14"),
        pytest.param(2, (2, 2), id="1/6, of two equal weights"),
        pytest.param(3, (2, 1), id="1/5, the other"),
        pytest.param(4, (1, 1), id="4/13; the largest of each layer have 1"),
    ],
)
def test_lamp_by_hand(zeros, counts):
    layers = nn.Sequential(row(1, -3, 2), row(10, 20, -10))
    assert tuple(keep_counts(layers, zeros / 6, "lamp").values()) == counts


def test_lamp_keeps_a_weight_of_every_layer_where_global_does_not():
    layers = nn.Sequential(row(1e-3, 1e-3, 1e-3, 1e-3), row(9, 8, 7, 6))
    assert keep_counts(layers, 0.5, "global") == {"0": 0, "1": 4}
    assert keep_counts(layers, 0.75, "lamp") == {"0": 1, "1": 1}


def test_lamp_takes_a_layer_of_zeros_first():
    layers = nn.Sequential(row(1, 1), row(0, 0), row(0, 5))
    assert keep_counts(layers, 0.5, "lamp") == {"0": 2, "1": 0, "2": 1}


@pytest.mark.parametrize(
    ("amount", "counts"),
    [
        # Shares 8 + 3 + 3 + 3 = 17 and 4 + 8 + 1 + 1 = 14, of 216 and 32 weights.
        pytest.param(0.9, (14, 11), id="25 weights: 13.7 and 11.3"),
        pytest.param(0.5, (92, 32), id="124 weights: 68 and 56, which only 32 can be"),
        pytest.param(0, (216, 32), id="dense"),
    ],
)
def test_erk_by_hand(amount, counts):
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1))
    assert tuple(keep_counts(layers, amount, "erk").values()) == counts


def test_erk_takes_a_grouped_layers_own_shape():
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))
    # Shares 8 + 1 + 3 + 3 = 15 and 8 + 8 + 1 + 1 = 18.
    assert tuple(keep_counts(layers, 1 - 33 / 136, "erk").values()) == (15, 18)


def test_global_counts_equal_weights_from_the_first_layer_on():
    layers = nn.Sequential(row(1, 1, 1, 1), row(1, 1, 1, 1))
    assert keep_counts(layers, 0.25, "global") == {"0": 2, "1": 4}


@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
@pytest.mark.parametrize("amount", [0, 0.01, 0.1, 0.3, 0.45, 0.5, 0.6])
@pytest.mark.parametrize("pattern", [TWO_OF_FOUR, Pattern(3, 4), Pattern(1, 4)], ids=str)
def test_under_a_pattern_a_layer_is_dense_or_follows_it(scope, amount, pattern):
    torch.manual_seed(0)
    plain = [nn.Conv2d(4 * groups, 8, 3) for groups in (1, 2, 3, 4, 8, 1)]
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1), *plain)
    size, counts = sizes(layers), keep_counts(layers, amount, scope, pattern=pattern)
    assert counts["0"] == size["0"], "three channels"
    for name in size:
        assert counts[name] == size[name] or counts[name] <= pattern.most(size[name])
    assert sum(counts.values()) == sum(size.values()) - round(amount * sum(size.values()))


def test_the_layers_that_lose_least_take_the_pattern():
    # The first loses half of its square, the second next to nothing; both are of one size.
    layers = nn.Sequential(row(1, 1, 1, 1), row(1, 1, 0.1, 0.1), row(1, 1, 1, 1))
    assert keep_counts(layers, 2 / 12, "global", pattern=TWO_OF_FOUR) == {"0": 4, "1": 2, "2": 4}
    assert keep_counts(layers, 3 / 12, "global", pattern=TWO_OF_FOUR) == {"0": 4, "1": 1, "2": 4}


def test_a_layer_too_small_for_the_zeros_gives_way_to_a_larger():
    # The cheapest, four weights, leaves no room for eight more, and can't hold nine zeros itself.
    layers = nn.Sequential(row(1, 1, 0, 0), row(*[1.0] * 16))
    assert keep_counts(layers, 9 / 20, "global", pattern=TWO_OF_FOUR) == {"0": 4, "1": 7}


def test_zeros_between_what_layers_can_hold_are_refused_and_the_next_named():
    # The small layer holds 4, the large makes at least 8.
    layers = nn.Sequential(row(1, 1, 0, 0), row(*[1.0] * 16))
    with pytest.raises(InputError, match=r"is 6 zeros, which .* 0 or 0\.4 is expected"):
        keep_counts(layers, 0.3, "global", pattern=TWO_OF_FOUR)
    assert keep_counts(layers, 0.4, "global", pattern=TWO_OF_FOUR) == {"0": 4, "1": 8}


def test_kept_and_closely_capped_layers_take_no_pattern():
    layers = nn.Sequential(row(1, 1, 1, 1), row(1, 1, 1, 1), row(1, 1, 1, 1))
    given = keep_counts(layers, 2 / 12, "global", keep=["0"], caps={"1": 0.25}, pattern=TWO_OF_FOUR)
    assert given == {"0": 4, "1": 4, "2": 2}
    layer = keep_counts(layers, 0.5, "layer", keep=["0"], caps={"1": 0.25}, pattern=TWO_OF_FOUR)
    assert layer == {"0": 4, "1": 4, "2": 2}


@pytest.mark.parametrize(
    ("amount", "scope", "options", "words"),
    [
        pytest.param(0.5, "model", {}, "`scope` is 'model'; one of layer, global, lamp, erk", id="scope"),
        pytest.param(1, "erk", {}, "`amount` is 1;", id="amount"),
        pytest.param(
            0.5,
            "global",
            {"keep": ["model.*"]},
            r"`keep` 'model.\*' matches no .* such as 0, 1, 6",
            id="keep",
        ),
        pytest.param(0.5, "layer", {"caps": {"x": 0.5}}, "`caps` 'x' matches no", id="caps"),
        pytest.param(0.5, "layer", {"caps": {"0": 30}}, "`caps` '0' is 30; a sparsity", id="a cap over 1"),
        pytest.param(0.5, "lamp", {"keep": ["*"]}, "hold 0 of .* weights; 0.0 at most", id="all kept"),
        pytest.param(
            0.9, "erk", {"caps": {"*": 0.5}}, r"hold \d+ of \d+ weights; 0.49\d* at most", id="capped"
        ),
        pytest.param(
            0.3, "layer", {"pattern": TWO_OF_FOUR}, "less than that of `pattern` 2:4; 0.5 or more", id="layer"
        ),
        pytest.param(
            0.5, "layer", {"pattern": Pattern(1, 64)}, "less than that of `pattern` 1:64; 0.9844", id="1:64"
        ),
        pytest.param(
            0.99, "layer", {"pattern": Pattern(1, 64)}, "`pattern` 1:64 fits no layer", id="nothing fits"
        ),
        pytest.param(0.99, "global", {"pattern": TWO_OF_FOUR}, "at most is expected", id="the stem is dense"),
        pytest.param(
            0.001,
            "global",
            {"pattern": TWO_OF_FOUR},
            "is 1 zeros, which no choice .* 0 or 0.003 is expected",
            id="too few",
        ),
    ],
)
def test_refused(amount, scope, options, words):
    with pytest.raises(InputError, match=words):
        keep_counts(network(), amount, scope, **options)


def test_network_without_convolutions_is_refused():
    with pytest.raises(InputError, match="no Conv2d"):
        keep_counts(nn.Linear(2, 2), 0.3, "erk")


@pytest.mark.parametrize(
    ("proportions", "lowest", "highest", "total", "counts"),
    [
        pytest.param((2, 3), (0, 0), (9, 9), 5, (2, 3), id="as proportions"),
        pytest.param((1.5, 1.3, 1.2), (0,) * 3, (9,) * 3, 4, (2, 1, 1), id="the largest remainder"),
        pytest.param((1, 1, 1), (0,) * 3, (9,) * 3, 4, (2, 1, 1), id="equal remainders: the first"),
        pytest.param((2, 4), (0, 0), (90, 90), 30, (10, 20), id="in proportion"),
        pytest.param((2, 4, 4), (0,) * 3, (90, 5, 90), 30, (8, 5, 17), id="what one can't take, others do"),
        pytest.param((1, 9), (4, 0), (9, 9), 10, (4, 6), id="at least"),
        pytest.param((0, 1), (0, 0), (9, 9), 5, (0, 5), id="not proportions"),
        pytest.param((0, 1), (0, 0), (9, 9), 12, (3, 9), id="not proportions, but there is no other"),
        pytest.param((0, 0), (0, 0), (9, 9), 12, (6, 6), id="nothing proportions"),
        pytest.param((5, 5), (3, 3), (9, 9), 6, (3, 3), id="the least"),
        pytest.param((5, 5), (3, 3), (9, 9), 18, (9, 9), id="the most"),
    ],
)
def test_round_to_total(proportions, lowest, highest, total, counts):
    given = [dict(zip("abc", numbers, strict=False)) for numbers in (proportions, lowest, highest)]
    assert tuple(round_to_total(*given, total).values()) == counts


@pytest.mark.parametrize(("seed", "layers"), list(itertools.product(range(5), (1, 2, 60))))
def test_round_to_total_within_random_bounds(seed, layers):
    generator = torch.Generator().manual_seed(seed)
    names = [str(i) for i in range(layers)]
    lowest = torch.randint(0, 10**6, (layers,), generator=generator)
    highest = lowest + torch.randint(0, 7 * 10**6, (layers,), generator=generator)
    proportions = torch.rand(layers, generator=generator) * 1e7
    for share in (0, 1e-7, 0.3, 0.5, 0.9999999, 1):
        total = int(lowest.sum() + (share * (highest - lowest).sum().double()).round())
        bounds = [dict(zip(names, bound.tolist(), strict=True)) for bound in (proportions, lowest, highest)]
        counts = round_to_total(*bounds, total)
        assert sum(counts.values()) == total
        assert all(bounds[1][n] <= counts[n] <= bounds[2][n] for n in names)


@pytest.mark.parametrize(
    ("proportions", "total", "words"),
    [
        pytest.param(1.0, 10, "`total` is 10; from 1 to 9", id="too many"),
        pytest.param(1.0, 0, "`total` is 0", id="too few"),
        pytest.param(-1.0, 5, "negative or not finite", id="negative"),
        pytest.param(float("nan"), 5, "negative or not finite", id="NaN"),
    ],
)
def test_round_to_total_refuses(proportions, total, words):
    with pytest.raises(InputError, match=words):
        round_to_total({"a": proportions}, {"a": 1}, {"a": 9}, total)


PRICES = {"0": 100, "1": 100, "2": 30, "3": 30, "4": 7, "5": 7, "6": 1}


def spent(counts: dict[str, int], prices: dict[str, int] = PRICES) -> int:
    return sum(prices[name] * count for name, count in counts.items())


@pytest.mark.parametrize("scope", ["global", "lamp", "erk", "measured"])
@pytest.mark.parametrize("amount", AMOUNTS)
def test_by_price_the_total_is_met_up_to_one_weight(scope, amount):
    layers = network()
    size = sizes(layers)
    marginals = {name: np.sort(np.random.default_rng(len(name)).random(n))[::-1] for name, n in size.items()}
    given = {"keep": ["6"], "caps": {"5": 0.25}, "prices": PRICES, "marginals": marginals}
    counts = keep_counts(layers, amount, scope, **given)
    target = spent(size) - round(amount * spent(size))
    assert 0 <= target - spent(counts) < max(PRICES.values())
    assert counts["6"] == 1
    assert counts["5"] >= 6


@pytest.mark.parametrize("seed", range(20))
def test_by_price_no_weight_left_out_scores_higher_than_one_that_is_kept(seed):
    rng = np.random.default_rng(seed)
    scores = {str(i): np.sort(rng.integers(1, 30, rng.integers(1, 40)) / 8)[::-1] for i in range(5)}
    prices = {name: int(rng.integers(1, 9)) for name in scores}
    lowest = {name: int(rng.integers(0, 3)) for name in scores}
    most = spent({name: lowest[name] + len(one) for name, one in scores.items()}, prices)
    total = int(rng.integers(spent(lowest, prices), most + 1))
    counts = keep_within(scores, lowest, total, prices)
    kept = {name: counts[name] - lowest[name] for name in scores}
    assert spent(counts, prices) <= total
    worst = min((scores[n][k - 1] for n, k in kept.items() if k), default=np.inf)
    for name, count in kept.items():
        if count < len(scores[name]):
            score = scores[name][count]
            assert score <= worst
            assert score < worst or prices[name] > total - spent(counts, prices)


def test_by_price_a_layer_that_never_runs_costs_nothing():
    scores = {"a": np.array([3.0, 2.0]), "b": np.array([9.0, 1.0])}
    assert keep_within(scores, {"a": 0, "b": 0}, 5, {"a": 0, "b": 5}) == {"a": 2, "b": 1}


def test_by_price_measured_costs_are_weighed_against_the_price():
    """Costs 4 and 3 of a weight, at prices 4 and 1: 4 / 4 is less than 3 / 1."""
    layers = nn.Sequential(row(1.0, 1.0), row(1.0, 1.0))
    marginals = {"0": np.array([4.0, 4.0]), "1": np.array([3.0, 3.0])}
    given = {"marginals": marginals, "prices": {"0": 4, "1": 1}}
    assert keep_counts(layers, 0.8, "measured", **given) == {"0": 0, "1": 2}
    assert keep_counts(layers, 0.5, "measured", marginals=marginals) == {"0": 2, "1": 0}


def test_by_price_layer_scope_prunes_the_same_share_of_each_layer():
    assert keep_counts(network(), 0.3, "layer", prices=PRICES) == keep_counts(network(), 0.3, "layer")


def test_by_price_magnitudes_keep_their_order():
    layers = nn.Sequential(row(4.0, 4.0), row(3.0, 3.0))
    assert keep_counts(layers, 0.5, "global", prices={"0": 4, "1": 1}) == {"0": 1, "1": 0}
    assert keep_counts(layers, 0.2, "global", prices={"0": 4, "1": 1}) == {"0": 2, "1": 0}


def test_by_price_what_cannot_be_reached_is_told_in_multiply_adds():
    with pytest.raises(InputError, match=r"multiply-adds less, but .* 0\.\d+ at most is expected"):
        keep_counts(network(), 0.9, "global", keep=["0"], prices=PRICES)
    with pytest.raises(InputError, match=r"`pattern` 2:4 goes with `budget` weights only"):
        keep_counts(network(), 0.5, "global", pattern=TWO_OF_FOUR, prices=PRICES)


BLOCKS = (Block(2), Block(4))


def curved(size: dict[str, int]) -> dict[str, PriceCurve]:
    """Price curves that are not lines, and not 0 at 0."""
    return {n: PriceCurve((0.0, 0.5, 1.0), (1.0, 1.0 + 2 * s, 1.0 + 3 * s)) for n, s in size.items()}


def falling(size: dict[str, int]) -> dict[str, np.ndarray]:
    return {name: np.sort(np.random.default_rng(len(name)).random(n))[::-1] for name, n in size.items()}


@pytest.mark.parametrize("pattern", BLOCKS, ids=str)
@pytest.mark.parametrize("scope", ["layer", "global", "lamp", "erk", "measured"])
@pytest.mark.parametrize("amount", AMOUNTS[:-1])
@pytest.mark.parametrize("budget", ["weights", "flops", "latency"])
def test_blocks_go_with_every_scope_and_budget(pattern, scope, amount, budget):
    layers = network()
    size = sizes(layers)
    prices = {"weights": None, "flops": PRICES, "latency": curved(size)}[budget]
    given = {"keep": ["6"], "caps": {"5": 0.3}, "prices": prices, "marginals": falling(size)}
    counts = keep_counts(layers, amount, scope, pattern=pattern, **given)
    block = {name: block_size(pattern, layers.get_submodule(name).weight.shape) for name in size}
    assert sorted(block.values()) == sorted([1] * 3 + [pattern.size] * 4), "the stem, depthwise, one input"
    assert all(0 <= counts[name] <= size[name] and counts[name] % block[name] == 0 for name in size)
    assert counts["6"] == 1
    assert counts["5"] >= 0.7 * size["5"]
    if budget == "latency":
        cost = {name: LayerPrice(prices[name], size[name]) for name in size}
        whole, now = (sum(float(cost[n].at(one[n])) for n in size) for one in (size, counts))
        left, most = (1 - amount) * whole - now, 4 * pattern.size
    elif scope == "layer":
        free = {name: round(amount * size[name]) for name in size if name not in ("5", "6")}
        left, most = max(abs(size[n] - counts[n] - zeros) - block[n] / 2 for n, zeros in free.items()), 0.5
    else:
        price = prices or dict.fromkeys(size, 1)
        left = spent(size, price) - round(amount * spent(size, price)) - spent(counts, price)
        most = pattern.size * max(price.values())
    assert left < most
    assert left > -1e-6 or scope == "layer"


@pytest.mark.parametrize("pattern", BLOCKS, ids=str)
def test_layers_that_blocks_do_not_fit_are_pruned_by_single_weights(pattern):
    layers = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(6, 6, 1, groups=6), nn.Conv2d(5, 3, 1))
    counts = keep_counts(layers, 0.5, "global", pattern=pattern)
    assert counts == keep_counts(layers, 0.5, "global")
    assert sum(counts.values()) == 18


@pytest.mark.parametrize("pattern", BLOCKS, ids=str)
@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
def test_blocks_of_equal_weights_are_allocated_as_single_weights(pattern, scope):
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 32, 1))
    for conv in layers[1:]:
        means = conv.weight.data.unflatten(1, (-1, pattern.size)).mean(2)
        conv.weight.data = means.repeat_interleave(pattern.size, dim=1)
    free, blocks = (keep_counts(layers, 0.6, scope, pattern=one) for one in (None, pattern))
    assert all(abs(free[name] - blocks[name]) <= 2 * pattern.size for name in free)


@pytest.mark.parametrize("pattern", BLOCKS, ids=str)
@pytest.mark.parametrize("curves", [False, True])
def test_no_allocation_of_blocks_costs_less(pattern, curves):
    layers = nn.Sequential(nn.Conv2d(pattern.size, 5, 1), nn.Conv2d(pattern.size, 3, 2))
    size, costs = sizes(layers), falling(sizes(layers))
    prices = {name: PriceCurve((0.0, 1.0), (0.0, float(n))) for name, n in size.items()} if curves else None
    whole = sum(size.values())

    def lost(counts: dict[str, int]) -> float:
        return sum(costs[name][count:].sum() for name, count in counts.items())

    every = itertools.product(*(range(0, n + 1, pattern.size) for n in size.values()))
    every = [dict(zip(size, counts, strict=True)) for counts in every]
    for kept in range(pattern.size, whole, pattern.size):
        given = {"marginals": costs, "prices": prices, "pattern": pattern}
        counts = keep_counts(layers, 1 - kept / whole, "measured", **given)
        assert sum(counts.values()) == kept
        # By price curves, prices are rounded up to steps, so a block can be missing in the choice.
        sure = kept - pattern.size if curves else kept
        assert lost(counts) <= min(lost(one) for one in every if sum(one.values()) == sure) + 1e-9


def test_lamp_of_blocks_by_hand():
    # Means 2, 1 and 3, 2. LAMP: 4/8 and 1/10; 9/18 and 4/26. The smallest goes first.
    layers = nn.Sequential(row(3, 1, 1, 1), row(-2, 4, 2, 2))
    kept = [keep_counts(layers, n / 8, "lamp", pattern=Block(2)) for n in (0, 1, 2, 4)]
    assert [tuple(one.values()) for one in kept] == [(4, 4), (2, 4), (2, 4), (2, 2)]


def test_a_cap_leaves_whole_blocks():
    layers = nn.Sequential(row(*range(1, 9)), row(*range(101, 109)))
    assert keep_counts(layers, 0.1, "global", caps={"0": 0.3}, pattern=Block(4)) == {"0": 8, "1": 4}
    with pytest.raises(InputError, match=r"is 2 zeros, but .* hold 0 of 16 weights; 0\.0 at most"):
        keep_counts(layers, 0.1, "global", keep=["1"], caps={"0": 0.3}, pattern=Block(4))
