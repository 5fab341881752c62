"""Functions take turns; each one's milliseconds are those of the clock."""

from itertools import pairwise

import pytest

from sparsity.timing import latency
from sparsity.timing.latency import Rounds, summarize, take_turns


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the functions under test move."""
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    return now


def functions(clock, called: list[int], seconds: list[float]):
    def make(index: int):
        def function() -> None:
            called.append(index)
            clock[0] += seconds[index]

        return function

    return [make(index) for index in range(len(seconds))]


def test_each_function_gets_its_own_milliseconds(clock):
    spent = take_turns(functions(clock, [], [0.001, 0.25]), Rounds(0, 3, 3))
    assert [pytest.approx(one) for one in spent] == [[1.0] * 3, [250.0] * 3]


def test_each_round_has_its_own_order(clock):
    called: list[int] = []
    take_turns(functions(clock, called, [1.0] * 4), Rounds(0, 300, 300))
    rounds = [called[i : i + 8 : 2] for i in range(4, len(called), 8)]
    assert called[5::2] == called[4::2]
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    followers = {(one, other) for order in rounds for one, other in pairwise(order)}
    assert len(followers) == 4 * 3, "each function follows each other one at times"


def test_each_runs_for_nothing_until_it_is_warm(clock):
    called: list[int] = []
    take_turns(functions(clock, called, [0.008, 0.5]), Rounds(0, 1, 1))
    order = called[2:]
    assert sorted(order) == [0] * 4 + [1] * 2, "24 ms and 500 ms for nothing, then one run each"
    assert order in ([0] * 4 + [1] * 2, [1] * 2 + [0] * 4)


def test_each_runs_once_for_nothing_before_it_is_timed(clock):
    called: list[int] = []

    def slow_at_first() -> None:
        follows_itself = called[-1:] == [1]
        called.append(1)
        clock[0] += 0.001 if follows_itself else 1.0

    spent = take_turns([*functions(clock, called, [0.5]), slow_at_first], Rounds(0, 3, 3))
    assert spent[1] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("rounds", "count"),
    [
        pytest.param(Rounds(seconds=20, least=2, most=50), 5, id="as many as fit"),
        pytest.param(Rounds(seconds=1, least=3, most=50), 3, id="not fewer than least"),
        pytest.param(Rounds(seconds=1000, least=3, most=7), 7, id="not more than most"),
    ],
)
def test_how_many_rounds(clock, rounds, count):
    spent = take_turns(functions(clock, [], [0.5, 1.5]), rounds)
    assert [len(one) for one in spent] == [count, count]


def test_ticks_end_at_the_number_to_do(clock):
    ticks: list[tuple[int, int]] = []
    take_turns(functions(clock, [], [1.0]), Rounds(0, 4, 4), lambda *tick: ticks.append(tick))
    assert ticks == [(done, 5) for done in range(1, 6)]


def test_summary():
    one = summarize([float(value) for value in range(11)])
    assert (one.median, one.p10, one.p90, one.runs) == (5.0, 1.0, 9.0, 11)


def test_an_outlier_moves_no_median():
    assert summarize([1.0, 1.0, 1.0, 1.0, 1000.0]).median == 1.0
