"""Thresholds, and what layers keep, computed by hand."""

import pytest
import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.channels.choice import Choice, choose
from sparsity.channels.slimming_settings import SlimmingSettings

SCORES = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.9, 0.05, 0.15, 0.25, 0.35, 0.45])
LAYERS = [torch.arange(5), torch.arange(5, 10)]


def chosen(
    percent: float,
    scores: Tensor = SCORES,
    layers: list[Tensor] = LAYERS,
    fixed: tuple[int, ...] = (),
    **more,
) -> Choice:
    free = torch.ones(len(scores), dtype=torch.bool)
    free[list(fixed)] = False
    settings = SlimmingSettings(percent, **{"min_channels": 1} | more)
    return choose(scores, free, layers, settings)


def gone(choice: Choice) -> list[int]:
    return (~choice.keep).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("percent", "cut", "threshold"),
    [
        pytest.param(0.0, [], 0.0, id="nothing"),
        pytest.param(0.3, [0, 5, 6], 0.15, id="the smallest of all layers"),
        pytest.param(0.34, [0, 5, 6], 0.15, id="rounded down"),
        pytest.param(0.36, [0, 1, 5, 6], 0.2, id="rounded up"),
        pytest.param(0.9, [0, 1, 2, 3, 5, 6, 7, 8], 0.4, id="a layer keeps its best one"),
    ],
)
def test_one_threshold_over_all_layers(percent, cut, threshold):
    choice = chosen(percent)
    assert gone(choice) == cut
    assert choice.threshold == pytest.approx(threshold)


def test_the_safe_threshold_is_the_least_of_the_layers_largest():
    choice = chosen(0.3)
    assert choice.safe_threshold == pytest.approx(0.45)
    assert choice.safe_percent == pytest.approx(0.8), "all but 0.45 and 0.9 are below it"
    at_it = chosen(choice.safe_percent)
    assert all(at_it.keep[layer].any() for layer in LAYERS)
    assert len(gone(at_it)) == 8


def test_a_layer_with_a_channel_that_stays_is_never_emptied():
    choice = chosen(0.3, fixed=(9,))
    assert choice.safe_threshold == pytest.approx(0.9)
    assert choice.safe_percent == pytest.approx(8 / 9)


def test_fixed_channels_neither_go_nor_count():
    assert gone(chosen(0.5, fixed=(0, 5))) == [1, 2, 6, 7]


def test_equal_scores_go_as_far_as_asked():
    choice = chosen(0.5, scores=torch.ones(10), min_channels=2)
    assert len(gone(choice)) == 3, "five of the first layer, of which two come back"
    zeros = torch.tensor([0.0] * 8 + [1.0, 1.0])
    assert len(gone(chosen(0.5, scores=zeros))) == 4


@pytest.mark.parametrize(("least", "kept"), [(1, (1, 1)), (3, (3, 3)), (8, (5, 5))])
def test_layers_keep_so_many_of_their_best(least, kept):
    choice = chosen(0.95, min_channels=least)
    assert tuple(int(choice.keep[layer].sum()) for layer in LAYERS) == kept
    assert choice.keep[4]
    assert choice.keep[9]


def test_counts_are_rounded_up_by_the_best_that_were_cut():
    scores, layers = torch.arange(20.0), [torch.arange(16), torch.arange(16, 20)]
    choice = chosen(0.35, scores, layers, round_to=8)
    assert gone(choice) == list(range(0)), "9 of 16 are rounded up to 16"
    choice = chosen(0.5, scores, layers, round_to=8)
    assert gone(choice) == list(range(8))
    choice = chosen(0.6, scores, layers, round_to=8)
    assert gone(choice) == list(range(8)), "4 of 16 are rounded up to 8, by the best"
    assert choice.keep[16:].all(), "four channels are no multiple of 8, and stay as they are"


def test_what_layers_share_is_rounded_for_each_of_them():
    scores = torch.arange(16.0)
    layers = [torch.arange(12), torch.arange(8, 16)]
    choice = chosen(0.7, scores, layers, round_to=4)
    assert [int(choice.keep[layer].sum()) % 4 for layer in layers] == [0, 0]


def test_channels_that_stand_twice_in_a_layer_count_twice():
    layers = [torch.arange(6).repeat(2)]
    choice = chosen(0.9, torch.arange(6.0), layers, min_channels=4)
    assert gone(choice) == [0, 1, 2, 3]


def test_channels_that_stand_twice_are_rounded_as_one():
    layers = [torch.arange(24).repeat(2)]
    choice = chosen(0.6, torch.arange(24.0), layers, round_to=8)
    assert gone(choice) == list(range(8)), "10 a half become 16, not 12"


BAD = {
    "percent": ({"percent": 1.0}, "`percent` is 1.0; a fraction from 0 to below 1 is expected"),
    "percent below 0": ({"percent": -0.1}, "`percent` is -0.1"),
    "no number": ({"percent": float("nan")}, "`percent` is nan"),
    "by": ({"percent": 0.5, "by": "taylor"}, "`by` is 'taylor'; bn or l1 is expected"),
    "none": ({"percent": 0.5, "min_channels": 0}, "`min_channels` is 0; a whole number from 1 on"),
    "round": ({"percent": 0.5, "round_to": 0}, "`round_to` is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_out_of_range(case):
    values, words = BAD[case]
    with pytest.raises(InputError) as error:
        SlimmingSettings(**values)
    assert words in str(error.value)
