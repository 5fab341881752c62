"""Bisection: the last number that is kept, where every number up to some limit is."""

from __future__ import annotations

from collections.abc import Callable


def find_last(keeps: Callable[[int], bool], last: int, start: int | None = None) -> int:
    """Return a number of 1 to last that is kept and whose successor was tried and is not; 0 for none.

    keeps: whether a number is kept. It is asked once for each number that is tried; of those, every number up
    to the result is kept, and every larger one is not. last is returned if it is kept.
    start: a guess, that is tried first, with steps of 1, 2, 4, ... from there. None: bisection of the range.
    """
    low, high = (0, last + 1) if start is None else _enclose(keeps, last, min(max(start, 1), last))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _enclose(keeps: Callable[[int], bool], last: int, start: int) -> tuple[int, int]:
    """Return a number that is kept (or 0) and a larger one that is not (or last + 1), around start."""
    step, upwards = 1, keeps(start)
    here = start
    while here > 1 or upwards:
        if upwards and here == last:
            return last, last + 1
        there = min(here + step, last) if upwards else max(here - step, 1)
        if keeps(there) != upwards:
            return min(here, there), max(here, there)
        here, step = there, 2 * step
    return 0, 1
