"""How long functions take, timed by turns so that drift of the machine hits all alike (a leaf)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from sparsity.base.errors import InputError

WARM_SECONDS = 0.02
"""Longer than threads were seen to spin on."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds: median, 10th and 90th percentile, and of how many runs."""

    median: float
    p10: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Rounds:
    """How often each function runs: as often as fits into seconds, from least to most times."""

    seconds: float = 20.0
    least: int = 5
    most: int = 50

    def __post_init__(self) -> None:
        """Raise InputError for seconds that are no number from 0 on."""
        if not 0 <= self.seconds < math.inf:
            raise InputError(f"--seconds is {self.seconds}; a finite number from 0 on is expected")


def take_turns(
    functions: Sequence[Callable[[], object]],
    rounds: Rounds,
    tick: Callable[[int, int], None] | None = None,
) -> list[list[float]]:
    """Run the functions round by round and return each one's milliseconds.

    A first round warms up and sets how many follow; it is not counted. Each round has its own order, and
    each function runs for nothing, at least once and for WARM_SECONDS, before it is timed: threads of an
    engine spin on for milliseconds after it and hold up what comes next, and its own are to be awake. A
    function that hands its work to a GPU must wait for it. tick is called after each round with the rounds
    done and to do.
    """
    cost = 0.0
    for function in functions:
        first = _clock(function)
        cost += max(first, WARM_SECONDS) + first
    fitting = int(rounds.seconds / cost)
    count = min(max(fitting, rounds.least), rounds.most)
    spent: list[list[float]] = [[] for _ in functions]
    random = Random(0)
    for number in range(count):
        if tick is not None:
            tick(number + 1, count + 1)
        for index in random.sample(range(len(functions)), len(functions)):
            warm = 0.0
            while warm < WARM_SECONDS:
                warm += _clock(functions[index])
            spent[index].append(_clock(functions[index]) * 1e3)
    if tick is not None:
        tick(count + 1, count + 1)
    return spent


def _clock(function: Callable[[], object]) -> float:
    """The seconds of one run."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summarize(milliseconds: Sequence[float]) -> Latency:
    """Median and spread of runs, at least one."""
    p10, median, p90 = np.percentile(milliseconds, (10, 50, 90)).tolist()
    return Latency(median, p10, p90, len(milliseconds))
