"""Progress in a log file: a line now and then, with the time that is left; nothing for quick work."""

from collections.abc import Callable

import pytest

from sparsity.base import progress


@pytest.fixture
def log(monkeypatch, capsys) -> Callable[[], str]:
    """Gives what standard error took, which is no terminal; a line is due at once."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    return lambda: capsys.readouterr().err


def test_a_line_says_what_is_done_and_how_long_it_takes_yet(log):
    with progress.progress_bar(total=4, desc="Pruning", unit="layer", shown=True, leave=False) as bar:
        bar.update()
        bar.set_description("Measuring")
        bar.update()
    said = log()
    lines = said.splitlines()
    assert lines
    assert lines[0].startswith("Pruning: 1 of 4 layer, 00:00 so far, about 00:00 left")
    assert lines[-1].startswith("Measuring: 2 of 4 layer")
    assert "\r" not in said


def test_iterating_works_and_a_total_may_be_unknown(log):
    assert list(progress.progress_bar(iter("abc"), desc="Reading", unit="file", shown=True)) == list("abc")
    said = log()
    assert "left" not in said
    assert said.startswith("Reading: 1 file, ")


def test_quick_work_prints_nothing(log, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 30.0)
    assert len(list(progress.progress_bar(range(100), shown=True))) == 100
    assert log() == ""


def test_what_is_not_shown_prints_nothing(log):
    assert list(progress.progress_bar(range(3), shown=False)) == [0, 1, 2]
    assert log() == ""


@pytest.mark.parametrize(
    ("about", "line"),
    [
        pytest.param(
            {"n": 12, "total": 60, "elapsed": 70.0, "unit": "layer"},
            "Layers: 12 of 60 layer, 01:10 so far, about 04:40 left",
            id="minutes",
        ),
        pytest.param(
            {"n": 5, "total": None, "elapsed": 4000.0, "unit": "img"},
            "Layers: 5 img, 1:06:40 so far",
            id="hours",
        ),
    ],
)
def test_the_words_of_a_line(about, line):
    assert progress._format("Layers: ", about) == line


def test_the_time_left_goes_by_what_was_done_since_the_line_before():
    about = {"n": 60, "total": 160, "elapsed": 630.0, "unit": "img"}
    assert progress._format("", about, (30, 600.0)).endswith(", 10:30 so far, about 01:40 left")
    assert progress._format("", about, (60, 620.0)).endswith("about 17:30 left"), "nothing was done since"
    assert progress._format("", about).endswith("10:30 so far"), "the first line: its pace is not known"
