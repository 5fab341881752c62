"""Bisection finds the limit of what is kept, with few questions, from any start."""

import math

import pytest

from sparsity.sweeping.bisection import find_last


@pytest.mark.parametrize("last", [1, 2, 9, 99])
def test_the_last_that_is_kept_is_found_from_any_start(last):
    for limit in range(last + 1):
        for start in (None, *range(last + 2)):
            asked = []

            def keeps(number, limit=limit, asked=asked):
                asked.append(number)
                return number <= limit

            assert find_last(keeps, last, start) == limit
            assert len(asked) == len(set(asked)), "each is tried once"
            assert set(asked) <= set(range(1, last + 1))
            assert len(asked) <= 2 * math.ceil(math.log2(last + 1)) + 1
            if start is not None and abs(start - limit) <= 1:
                assert len(asked) <= 4, "a good guess saves questions"


@pytest.mark.parametrize("start", [None, 1, 4, 9])
def test_what_is_told_of_the_result_holds_where_numbers_are_not_in_order(start):
    for pattern in range(2**9):
        asked = {}

        def keeps(number, pattern=pattern, asked=asked):
            asked[number] = bool(pattern >> (number - 1) & 1)
            return asked[number]

        found = find_last(keeps, 9, start)
        assert all(kept == (number <= found) for number, kept in asked.items())
        assert found == 0 or asked[found]
        assert found == 9 or not asked[found + 1]
