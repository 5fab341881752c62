"""Selection of the highest scores of a layer, with or without a pattern: N:M, or blocks of channels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sparsity.base.errors import InputError

LONGEST = 64
"""The largest m."""
BLOCK_NAMES = {2: "pair", 4: "quad"}
"""Size of a block -> the name of its pattern."""


@dataclass(frozen=True)
class Pattern:
    """N:M sparsity: at most n weights of every m consecutive input channels are non-zero.

    The m weights of a group belong to one output channel and one kernel position.
    Raises InputError unless 1 <= n < m <= 64.

    Source: Mishra et al., arXiv:2104.08378 (2:4 on NVIDIA's sparse tensor cores).
    """

    n: int
    m: int
    size: ClassVar[int] = 1
    """Each weight becomes zero or stays by itself."""

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= LONGEST:
            raise InputError(
                f"`pattern` is '{self}'; N:M with 1 <= N < M <= {LONGEST}, such as 2:4, is expected"
            )

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def sparsity(self) -> float:
        """The smallest sparsity of a layer that has the pattern, 1 - n / m."""
        return (self.m - self.n) / self.m

    def fits(self, conv_shape: Sequence[int]) -> bool:
        """Whether a weight [out, in / groups, height, width] divides into groups of m input channels."""
        return conv_shape[1] % self.m == 0

    def most(self, weights: int) -> int:
        """Return the largest number of weights that a layer with the pattern keeps. weights: all of them."""
        return weights // self.m * self.n

    def select(self, scores: Tensor, count: int) -> Tensor:
        """Select as the function select does. What select refuses is not checked."""
        allowed = _highest_of_groups(scores, self)
        if count == self.most(scores.numel()):
            return allowed
        return _highest(scores.view(-1), count, allowed.view(-1)).view(scores.shape)


@dataclass(frozen=True)
class Block:
    """Blocks: the weights of every 2 or 4 consecutive input channels become zero or stay together.

    The weights of a block belong to one output channel and one kernel position. A kernel that multiplies
    several input channels at once can skip such a block.
    size: the weights of a block, 2 ("pair") or 4 ("quad"). Raises InputError for another size.
    """

    size: int
    sparsity: ClassVar[float] = 0.0
    """Any number of blocks may stay."""

    def __post_init__(self) -> None:
        if self.size not in BLOCK_NAMES:
            raise InputError(f"`size` is {self.size!r}; 2 (pair) or 4 (quad) is expected")

    def __str__(self) -> str:
        return BLOCK_NAMES[self.size]

    @property
    def m(self) -> int:
        """The input channels of a group, as in Pattern."""
        return self.size

    def fits(self, conv_shape: Sequence[int]) -> bool:
        """Whether a weight [out, in / groups, height, width] divides into blocks."""
        return conv_shape[1] % self.size == 0

    def most(self, weights: int) -> int:
        """Return the largest number of weights that a layer keeps, which is all of them."""
        return weights

    def select(self, scores: Tensor, count: int) -> Tensor:
        """Select as the function select does. What select refuses is not checked."""
        sums = scores.unflatten(1, (-1, self.size)).sum(2)
        return select(sums, count // self.size).repeat_interleave(self.size, dim=1)


AnyPattern = Pattern | Block


def block_size(pattern: AnyPattern | None, conv_shape: Sequence[int]) -> int:
    """Return how many weights become zero or stay together in a layer of this shape; 1: each by itself."""
    return pattern.size if pattern and pattern.fits(conv_shape) else 1


def parse_pattern(text: str) -> AnyPattern | None:
    """Parse a pattern: "2:4", "4:8", "pair", "quad". Return None for "" and "unstructured".

    Raises InputError for any other text.
    """
    if text in ("", "unstructured"):
        return None
    for size, name in BLOCK_NAMES.items():
        if text == name:
            return Block(size)
    found = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if not found:
        names = ", ".join(BLOCK_NAMES.values())
        raise InputError(
            f"`pattern` is {text!r}; unstructured, {names}, or N:M with 1 <= N < M <= {LONGEST}, "
            "such as 2:4, is expected"
        )
    return Pattern(int(found[1]), int(found[2]))


def select(scores: Tensor, count: int, pattern: AnyPattern | None = None) -> Tensor:
    """Select the highest scores of a layer. Return a bool mask of the scores' shape with exactly count True.

    scores: of any shape. With a pattern, [out, in / groups, height, width], and the pattern must fit.
    Infinities are allowed. Of equal scores, the first in index order is left out first.
    pattern: of N:M, at most n of every m along dim 1 are selected, and among these the highest scores. Of
    blocks, those with the highest sums of scores are selected.
    Raises InputError for NaN, or a count that is negative, more than can be selected, or not of whole blocks.
    """
    scores = scores.detach().contiguous()
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if pattern and not pattern.fits(scores.shape):
        raise InputError(
            f"`pattern` {pattern} does not fit scores of shape {tuple(scores.shape)}; "
            f"a multiple of {pattern.m} along dim 1 is expected"
        )
    most = pattern.most(scores.numel()) if pattern else scores.numel()
    if not 0 <= count <= most:
        raise InputError(f"`count` is {count}; from 0 to {most} of {scores.numel()} weights is expected")
    if pattern and count % pattern.size:
        raise InputError(f"`count` is {count}; `pattern` {pattern} expects a multiple of {pattern.size}")
    # amax returns NaN if there is one. It needs one pass and no further tensor.
    if scores.numel() and torch.isnan(scores.amax()):
        raise InputError("`scores` holds NaN; numbers are expected")
    if not pattern:
        return _highest(scores.view(-1), count).view(scores.shape)
    return pattern.select(scores, count)


def project(magnitudes: Tensor, count: int, pattern: AnyPattern | None = None) -> Tensor:
    """Select the weights that are kept by the nearest weights with count nonzeros and the pattern.

    magnitudes: the absolute values of weights. Of blocks, those with the largest sums of squares are
    selected; this is where it differs from select. Squares of single weights are in the order of magnitudes.
    """
    squared = pattern is not None and pattern.size > 1
    return select(magnitudes.square() if squared else magnitudes, count, pattern)


def _highest(scores: Tensor, count: int, allowed: Tensor | None = None) -> Tensor:
    """Mark the count highest of scores [N], among the allowed if given. Of equal scores, take the last."""
    if count in (0, len(scores)):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    if allowed is None:
        threshold = _largest(scores, count)
        mask = scores >= threshold
    else:
        threshold = _largest(scores[allowed], count)
        mask = (scores >= threshold) & allowed
    surplus = int(torch.count_nonzero(mask)) - count
    if surplus:
        ties = (mask & (scores == threshold)).nonzero()
        end = int(ties[surplus - 1]) + 1
        mask[:end] &= scores[:end] > threshold
    return mask


def _largest(scores: Tensor, rank: int) -> Tensor:
    """Return the rank-th largest of scores [N], as a tensor of one number. The rank counts from 1."""
    if scores.device.type == "cpu":
        # NumPy's selection is several times as fast as torch's, and needs no memory for indices.
        place = len(scores) - rank
        return torch.as_tensor(np.partition(scores.numpy(), place)[place])
    return scores.topk(rank, sorted=False).values.min()


def _highest_of_groups(scores: Tensor, pattern: Pattern) -> Tensor:
    """Mark the n highest of every m along dim 1 of scores [out, in, height, width].

    Of equal scores, take the last. The rank of a weight is the number of weights in its group that go before
    it. This takes m (m - 1) / 2 comparisons of whole rows, and is cheaper than sorting many short groups.
    """
    out, channels, height, width = scores.shape
    grouped = scores.view(out, channels // pattern.m, pattern.m, height, width).movedim(2, 0)
    rows = grouped.reshape(pattern.m, -1)
    ranks = torch.zeros_like(rows, dtype=torch.uint8)
    for later in range(1, pattern.m):
        goes_before = (rows[:later] <= rows[later]).view(torch.uint8)
        ranks[:later] += goes_before
        ranks[later] += later - goes_before.sum(0, dtype=torch.uint8)
    return (ranks < pattern.n).view(grouped.shape).movedim(0, 2).reshape(scores.shape).contiguous()
