"""The highest scores, freely, N:M and in blocks."""

import itertools
import math

import pytest
import torch

from sparsity import InputError
from sparsity.pruning.patterns import Block, Pattern, _largest, block_size, parse_pattern, project, select

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
        pytest.param("pair", Block(2), id="blocks of two"),
        pytest.param("quad", Block(4), id="blocks of four"),
    ],
)
def test_parse(text, pattern):
    assert parse_pattern(text) == pattern
    assert pattern is None or str(pattern) == text


@pytest.mark.parametrize(
    "text",
    ["4:2", "2:2", "0:4", "1:65", "2:4:8", "2", "-1:4", "2/4", "two:four", "²:4", "pairs", "Quad", "pair:2"],
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(InputError, match=r"`pattern` is '.*'; .*such as 2:4, is expected"):
        parse_pattern(text)


@pytest.mark.parametrize("size", [0, 1, 3, 8])
def test_blocks_are_of_two_or_four(size):
    with pytest.raises(InputError, match=rf"`size` is {size}; 2 \(pair\) or 4 \(quad\) is expected"):
        Block(size)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        pytest.param((8, 3, 6, 6), (1, 1), id="the stem"),
        pytest.param((8, 8, 1, 1), (2, 4), id="whole blocks"),
        pytest.param((8, 6, 3, 3), (2, 1), id="no quads"),
        pytest.param((8, 1, 3, 3), (1, 1), id="depthwise"),
    ],
)
def test_what_stays_together(shape, sizes):
    assert (block_size(Block(2), shape), block_size(Block(4), shape)) == sizes
    assert block_size(None, shape) == block_size(Pattern(2, 4), shape) == 1


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


@pytest.mark.parametrize(
    ("scores", "count", "stay"),
    [
        pytest.param(row(9, 0, 4, 4, 5, 5), 2, [0, 0, 0, 0, 1, 1], id="the largest sum"),
        pytest.param(row(9, 0, 4, 4, 5, 5), 4, [1, 1, 0, 0, 1, 1], id="the next"),
        pytest.param(row(9, 0, 4, 4, 5, 5), 0, [0] * 6, id="none"),
        pytest.param(row(9, 0, 4, 4, 5, 5), 6, [1] * 6, id="all"),
        pytest.param(row(1, 1, 1, 1), 2, [0, 0, 1, 1], id="equal: the first go"),
        pytest.param(row(-INF, 1, -3, -3), 2, [0, 0, 1, 1], id="infinities"),
    ],
)
def test_select_pairs(scores, count, stay):
    assert select(scores, count, Block(2)).view(-1).tolist() == [bool(s) for s in stay]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kept", range(7))
def test_blocks_have_the_largest_sums_and_are_the_nearest(size, kept):
    weights = torch.randn(3, size, 2, 1, generator=torch.Generator().manual_seed(kept)).double()
    blocks = [(o, slice(None), y, 0) for o in range(3) for y in range(2)]
    for choose, norm in ((select, torch.abs), (project, torch.square)):
        mask = choose(weights.abs(), kept * size, Block(size))
        assert set(per_group(mask, size).flatten().tolist()) <= {0, size}
        sums = [sum(float(norm(weights[b]).sum()) for b in c) for c in itertools.combinations(blocks, kept)]
        assert float(norm(weights[mask]).sum()) == pytest.approx(max(sums))


def test_the_nearest_pair_is_not_that_of_the_largest_sum():
    magnitudes = row(3, 0, 2, 2)
    assert select(magnitudes, 2, Block(2)).view(-1).tolist() == [False, False, True, True]
    assert project(magnitudes, 2, Block(2)).view(-1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("pattern", [None, Pattern(2, 4)], ids=str)
def test_without_blocks_the_nearest_are_the_highest(pattern):
    magnitudes = torch.rand(4, 8, 3, 3) * 1e-30  # Their squares are all 0 in float32.
    assert torch.equal(project(magnitudes, 100, pattern), select(magnitudes, 100, pattern))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_type_and_layout(dtype, layout):
    scores = torch.arange(64.0).view(4, 4, 2, 2)
    given = scores.to(dtype).contiguous(memory_format=layout)
    for pattern, count in ((Pattern(2, 4), 30), (Block(2), 30), (Block(4), 32)):
        assert torch.equal(select(given, count, pattern), select(scores, count, pattern))


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
        pytest.param(
            row(1, 2, 3, 4), 3, Block(2), "`count` is 3; `pattern` pair .* a multiple of 2", id="half a pair"
        ),
        pytest.param(row(1, 2, 3, 4, 5, 6), 4, Block(4), "`pattern` quad does not fit", id="six channels"),
        pytest.param(row(1, math.nan), 2, Block(2), "`scores` holds NaN", id="NaN in a pair"),
        pytest.param(row(INF, -INF), 0, Block(2), "`scores` holds NaN", id="infinities without a sum"),
        pytest.param(row(1, math.nan), 1, None, "`scores` holds NaN", id="NaN"),
        pytest.param(row(1, math.nan), 0, None, "`scores` holds NaN", id="NaN where none stays"),
    ],
)
def test_refused(scores, count, pattern, words):
    with pytest.raises(InputError, match=words):
        select(scores, count, pattern)
