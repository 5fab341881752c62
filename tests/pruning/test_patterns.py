"""The highest scores, freely and N:M."""

import math

import pytest
import torch

from sparsity import InputError
from sparsity.pruning.patterns import Pattern, _largest, parse_pattern, select

INF = math.inf


def row(*scores: float) -> torch.Tensor:
    """Scores of one output channel of a 1x1 convolution."""
    return torch.tensor(scores).view(1, -1, 1, 1)


def per_group(mask: torch.Tensor, m: int) -> torch.Tensor:
    return mask.unflatten(1, (-1, m)).sum(2)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("unstructured", None, id="the word"),
        pytest.param("2:4", Pattern(2, 4), id="NVIDIA's"),
        pytest.param("4:8", Pattern(4, 8), id="wider"),
        pytest.param("1:64", Pattern(1, 64), id="the widest"),
    ],
)
def test_parse(text, pattern):
    assert parse_pattern(text) == pattern
    assert pattern is None or str(pattern) == text


@pytest.mark.parametrize(
    "text", ["4:2", "2:2", "0:4", "1:65", "2:4:8", "2", "-1:4", "2/4", "two:four", "²:4"]
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(InputError, match=r"`pattern` is '.*'; .*such as 2:4, is expected"):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        pytest.param((8, 3, 6, 6), False, id="the stem"),
        pytest.param((8, 8, 1, 1), True, id="whole groups"),
        pytest.param((8, 6, 3, 3), False, id="a group cut short"),
        pytest.param((8, 1, 3, 3), False, id="depthwise"),
    ],
)
def test_fits(shape, fits):
    assert Pattern(2, 4).fits(shape) is fits


@pytest.mark.parametrize(
    ("scores", "count", "stay"),
    [
        pytest.param(row(3, 1, 2), 2, [1, 0, 1], id="the highest"),
        pytest.param(row(3, 1, 2), 0, [0, 0, 0], id="none"),
        pytest.param(row(3, 1, 2), 3, [1, 1, 1], id="all"),
        pytest.param(row(1, 1, 1, 1), 1, [0, 0, 0, 1], id="equal: the first go first"),
        pytest.param(row(1, 2, 1, 3, 1), 3, [0, 1, 0, 1, 1], id="ties at the threshold"),
        pytest.param(row(0, 0, 0), 2, [0, 1, 1], id="zeros"),
        pytest.param(row(-0.0, 0.0, 1), 2, [0, 1, 1], id="zeros of both signs are equal"),
        pytest.param(row(INF, 1, INF, -INF), 3, [1, 1, 1, 0], id="infinities"),
        pytest.param(row(-INF, -INF, 1), 2, [0, 1, 1], id="ties of minus infinity"),
        pytest.param(row(5), 1, [1], id="one weight stays"),
        pytest.param(row(5), 0, [0], id="one weight goes"),
    ],
)
def test_select(scores, count, stay):
    assert select(scores, count).view(-1).tolist() == [bool(s) for s in stay]


@pytest.mark.parametrize(
    ("scores", "count", "stay"),
    [
        pytest.param(row(4, 3, 2, 1), 2, [1, 1, 0, 0], id="two of four"),
        pytest.param(row(9, 8, 7, 6, 1, 2, 3, 4), 4, [1, 1, 0, 0, 0, 0, 1, 1], id="each group its own"),
        pytest.param(row(9, 8, 7, 6, 1, 2, 3, 4), 3, [1, 1, 0, 0, 0, 0, 0, 1], id="fewer than the most"),
        pytest.param(row(*[1] * 8), 4, [0, 0, 1, 1, 0, 0, 1, 1], id="equal: the first of each group go"),
        pytest.param(row(*[1] * 8), 3, [0, 0, 0, 1, 0, 0, 1, 1], id="equal, and fewer: the first of all"),
        pytest.param(row(*[-INF] * 8), 3, [0, 0, 0, 1, 0, 0, 1, 1], id="all minus infinity"),
        pytest.param(row(INF, INF, INF, 0), 2, [0, 1, 1, 0], id="infinities"),
        pytest.param(row(1, 2, 3, 4), 0, [0, 0, 0, 0], id="none"),
    ],
)
def test_select_two_of_four(scores, count, stay):
    assert select(scores, count, Pattern(2, 4)).view(-1).tolist() == [bool(s) for s in stay]


@pytest.mark.parametrize("pattern", [Pattern(2, 4), Pattern(4, 8), Pattern(1, 2), Pattern(7, 16)], ids=str)
@pytest.mark.parametrize("share", [0, 0.3, 0.9, 1])
@pytest.mark.parametrize("levels", [3, 10**6], ids=["ties", "no ties"])
def test_a_pattern_holds_and_the_best_of_each_group_stay(pattern, share, levels):
    scores = torch.randint(levels, (6, 32, 3, 2), generator=torch.Generator().manual_seed(0)).float()
    count = int(share * pattern.most(scores.numel()))
    mask = select(scores, count, pattern)
    assert int(mask.sum()) == count
    assert per_group(mask, pattern.m).max() <= pattern.n
    # What a group may keep at most, by a sort: among these the highest of all stay.
    best = scores.unflatten(1, (-1, pattern.m)).sort(dim=2, descending=True).values[:, :, : pattern.n]
    expected = best.reshape(-1).sort(descending=True).values[:count]
    assert torch.equal(scores[mask].sort(descending=True).values, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_type_and_layout(dtype, layout):
    scores = torch.arange(64.0).view(4, 4, 2, 2)
    mask = select(scores.to(dtype).contiguous(memory_format=layout), 30, Pattern(2, 4))
    assert torch.equal(mask, select(scores, 30, Pattern(2, 4)))


def test_scores_are_left_as_they_are():
    scores = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    select(scores, 1)
    assert scores.tolist() == [3, 1, 2]


def test_another_device_finds_the_same_threshold():
    scores = torch.tensor([3.0, 1.0, 2.0, 2.0])
    elsewhere = [scores.topk(rank, sorted=False).values.min() for rank in range(1, 5)]
    assert [_largest(scores, rank) for rank in range(1, 5)] == elsewhere == [3, 2, 2, 1]


@pytest.mark.parametrize(
    ("scores", "count", "pattern", "words"),
    [
        pytest.param(row(1, 2), 3, None, "`count` is 3; from 0 to 2", id="more than there are"),
        pytest.param(row(1, 2), -1, None, "`count` is -1", id="negative"),
        pytest.param(
            row(1, 2, 3, 4), 3, Pattern(2, 4), "`count` is 3; from 0 to 2 of 4", id="over the pattern"
        ),
        pytest.param(row(1, 2, 3), 1, Pattern(2, 4), "`pattern` 2:4 does not fit", id="three channels"),
        pytest.param(row(1, math.nan), 1, None, "`scores` holds NaN", id="NaN"),
        pytest.param(row(1, math.nan), 0, None, "`scores` holds NaN", id="NaN where none stays"),
    ],
)
def test_refused(scores, count, pattern, words):
    with pytest.raises(InputError, match=words):
        select(scores, count, pattern)
