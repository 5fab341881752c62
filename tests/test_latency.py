"""Functions take turns; what comes out is what the clock said."""

import pytest

from sparsity import latency
from sparsity.latency import Rounds, summarize, take_turns


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


def test_rounds_begin_with_another_function_each_time(clock):
    called: list[int] = []
    take_turns(functions(clock, called, [1.0, 1.0, 1.0]), Rounds(0, 3, 3))
    assert called == [*(0, 1, 2), *(0, 1, 2), *(1, 2, 0), *(2, 0, 1)]


@pytest.mark.parametrize(
    ("rounds", "count"),
    [
        pytest.param(Rounds(seconds=10, least=2, most=50), 5, id="as many as fit"),
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
