"""Measures latency: functions take turns, so that drift of the machine affects all of them equally."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from sparsity.base.errors import InputError

WARM_SECONDS = 0.02
"""Seconds of warm-up before a function is timed; longer than threads were observed to spin."""


@dataclass(frozen=True)
class Latency:
    """The median, 10th and 90th percentile of a function's runs, in milliseconds, and the number of runs."""

    median: float
    p10: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Rounds:
    """How many rounds are timed: as many as fit into the given time, within limits.

    seconds: the time for all functions together. least, most: the limits of the number of rounds.
    Raises InputError where seconds is negative or not finite.
    """

    seconds: float = 20.0
    least: int = 5
    most: int = 50

    def __post_init__(self) -> None:
        """Raise InputError where seconds is negative or not finite."""
        if not 0 <= self.seconds < math.inf:
            raise InputError(f"`seconds` is {self.seconds}; a finite number from 0 on is expected")


def take_turns(
    functions: Sequence[Callable[[], object]],
    rounds: Rounds,
    tick: Callable[[int, int], None] | None = None,
) -> list[list[float]]:
    """Run the functions round by round, and return the milliseconds of each function's runs.

    The first round warms up and sets the number of the following rounds. It is not counted. Each round has
    its own random order. Before a function is timed, it runs untimed, at least once and for at least
    WARM_SECONDS. There are two reasons: the threads of the engine before it spin for milliseconds after their
    work and slow down other work, and the function's own threads must be awake.
    A function that uses a GPU must wait until the GPU is done.
    tick: called after each round with the number of finished and of all rounds, the first one included.
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
    """Return the seconds that one run takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summarize(milliseconds: Sequence[float]) -> Latency:
    """Return the median and the spread of at least one run."""
    p10, median, p90 = np.percentile(milliseconds, (10, 50, 90)).tolist()
    return Latency(median, p10, p90, len(milliseconds))
