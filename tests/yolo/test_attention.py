"""Attention between the cells of a map, against the formula cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparsity.yolo.attention import SelfAttention, area_attention
from sparsity.yolo.blocks import Conv


def convolution(c1: int, c2: int, k: int = 1, groups: int = 1) -> Conv:
    return Conv(nn.Conv2d(c1, c2, k, padding=k // 2, groups=groups), nn.Identity())


def make(channels: int, heads: int, keys: int, values: int, area: int = 1) -> SelfAttention:
    torch.manual_seed(0)
    inner = heads * values
    parts = (
        convolution(channels, heads * (2 * keys + values)),
        convolution(inner, channels),
        convolution(inner, inner, 3, inner),
    )
    return SelfAttention(*parts, heads, values, keys, keys**-0.5, area).requires_grad_(False)


def by_formula(attention: SelfAttention, x: Tensor) -> Tensor:
    """The output for one image: a sum over the cells of the same area, for each head and cell."""
    _, _, height, width = x.shape
    cells, keys, values = height * width, attention.key_dim, attention.head_dim
    channels = attention.qkv(x)[0].flatten(1)
    run = cells // attention.area
    sums, passed = [], []
    for head in range(attention.num_heads):
        start = head * (2 * keys + values)
        q, k, v = channels[start : start + 2 * keys + values].split([keys, keys, values])
        columns = []
        for cell in range(cells):
            others = range(cell // run * run, cell // run * run + run)
            logits = torch.stack([(q[:, cell] * k[:, one]).sum() * attention.scale for one in others])
            weights = logits.softmax(0)
            columns.append(sum(w * v[:, one] for w, one in zip(weights, others, strict=True)))
        sums.append(torch.stack(columns, 1))
        passed.append(v)
    maps = [torch.cat(one).reshape(1, -1, height, width) for one in (sums, passed)]
    return attention.proj(maps[0] + attention.pe(maps[1]))


@pytest.mark.parametrize(
    ("heads", "keys", "values", "area"),
    [
        pytest.param(1, 4, 4, 1, id="one head"),
        pytest.param(3, 2, 4, 1, id="several heads, fewer keys"),
        pytest.param(2, 4, 4, 3, id="areas"),
        pytest.param(2, 4, 4, 12, id="areas of half a row"),
    ],
)
def test_attention_follows_the_formula(heads: int, keys: int, values: int, area: int) -> None:
    attention = make(6, heads, keys, values, area)
    x = torch.randn(2, 6, 6, 4)
    found = attention(x)
    assert found.shape == x.shape
    for one in range(2):
        torch.testing.assert_close(found[one : one + 1], by_formula(attention, x[one : one + 1]))
    memory = attention(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(memory, found)


def test_products_are_those_of_the_cells_of_an_area() -> None:
    assert make(6, 3, 2, 4).products(24) == 3 * 24 * 24
    assert make(6, 3, 2, 4, area=4).products(24) == 3 * 4 * 6 * 6


def test_area_attention_has_keys_as_wide_as_values() -> None:
    parts = (convolution(8, 24), convolution(8, 8), convolution(8, 8, 3, 8))
    made = area_attention(*parts, area=4, num_heads=2, head_dim=4)
    assert (made.key_dim, made.area, made.scale) == (4, 4, 1 / math.sqrt(4))


@pytest.mark.parametrize(
    ("place", "other", "words"),
    [
        pytest.param(0, convolution(6, 20), "qkv gives 20 channels, but its heads need 24", id="qkv"),
        pytest.param(1, convolution(6, 6), "proj takes 6 channels, but its heads need 12", id="proj"),
        pytest.param(2, convolution(4, 4), "pe takes 4 channels, but its heads need 12", id="pe"),
        pytest.param(0, nn.Identity(), "qkv gives None channels", id="no convolution"),
    ],
)
def test_convolutions_that_do_not_fit_the_heads_are_refused(place: int, other: nn.Module, words: str) -> None:
    parts: list[nn.Module] = [convolution(6, 24), convolution(12, 6), convolution(12, 12, 3, 12)]
    parts[place] = other
    with pytest.raises(ValueError, match=words):
        SelfAttention(*parts, 3, 4, 2, 1.0)
