"""The words that a comparison ends in: which file is chosen, and what is said where nothing can be told."""

from dataclasses import replace

import pytest

from sparsity.comparing.row import ComparedRow
from sparsity.report.advice import Advice, Choice, advise, format_advice

ALL = (0.99, 0.95, 0.90)


def row(technique: str, ap: float, mb: float, ms: float, engine: str = "torch", **changes) -> ComparedRow:
    values = {
        **{"AP": ap, "AP50": 0.9, "latency_ms": ms, "latency_p10_ms": ms - 0.5, "latency_p90_ms": ms + 0.5},
        **{"peak_memory_mb": 512.0, "file": f"{technique}.safetensors", "file_mb": mb, "parameters": 9},
        **{"gflops": 1.0, "sparsity": 0.0, "seconds": 3.0, "note": "", "commands": "", "path": technique},
        **{"made_by": "" if technique == "dense" else f"make {technique}"},
        **{"AP_change_low": ap - 0.5 - 0.001, "AP_change_high": ap - 0.5 + 0.001},
    }
    return ComparedRow(technique=technique, engine=engine, **(values | changes))


DENSE = row("dense", 0.5, 4.0, 20.0)


def best(advice: Advice, aim: str, share: float) -> Choice:
    (found,) = (one for one in advice.choices if one.aim == aim and share in one.shares)
    return found


def test_each_share_has_its_smallest_and_its_fastest_file():
    rows = [
        DENSE,
        row("fuse", 0.5, 3.9, 18.0),
        row("fuse", 0.5, 7.8, 12.0, "onnxruntime"),
        row("prune", 0.48, 2.0, 18.0),
        row("slim", 0.46, 1.0, 8.0),
        row("int8-static", 0.4, 0.5, 4.0),
    ]
    advice = advise(rows)
    chosen = {(one.aim, one.shares): (one.technique, one.engine, one.command) for one in advice.choices}
    assert chosen == {
        ("smallest", (0.99,)): ("fuse", "torch", "make fuse"),
        ("smallest", (0.95,)): ("prune", "torch", "make prune"),
        ("smallest", (0.9,)): ("slim", "torch", "make slim"),
        ("fastest", (0.99, 0.95)): ("fuse", "onnxruntime", "make fuse"),
        ("fastest", (0.9,)): ("slim", "torch", "make slim"),
    }
    assert advice.notes == ()
    assert format_advice(advice).splitlines()[-3:] == [
        "Fastest that keeps 90% of the dense AP (0.500): slim, 8.0 ms in torch (dense: 20.0 ms in torch), "
        "AP 0.460, 92.0%.",
        "  file: slim",
        "  make slim",
    ]


def test_shares_that_no_file_keeps_are_said_plainly():
    advice = advise([DENSE, row("prune", 0.47, 2.0, 18.0), row("slim", 0.3, 1.0, 8.0)])
    assert {one.shares for one in advice.choices} == {(0.9,)}
    assert advice.notes == (
        "No file but the dense one keeps 99% or 95% of the dense AP (0.500). The closest is prune in torch: "
        "AP 0.470, 94.0%.",
    )
    advice = advise([DENSE, row("slim", 0.1, 1.0, 8.0)])
    assert advice.choices == ()
    assert "keeps 99%, 95% or 90%" in advice.notes[0]
    assert advise([DENSE]).notes[0].endswith("of the dense AP (0.500): no other was made.")


def test_the_dense_file_wins_where_no_other_is_better():
    chosen = best(advise([DENSE, row("fuse", 0.5, 4.0, 21.0)]), "fastest", 0.99)
    assert (chosen.technique, chosen.command) == ("dense", "")
    assert "the dense file itself, 20.0 ms in torch. No other file that keeps it is faster." in chosen.text
    assert best(advise([DENSE, row("fuse", 0.5, 4.0, 21.0)]), "smallest", 0.99).technique == "dense"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"AP_change_low": -0.02, "AP_change_high": 0.01},
            "That it keeps 99% is within the noise: the 95% interval of its change of AP is "
            "-0.020 to +0.010.",
            id="the share",
        ),
        pytest.param(
            {"latency_p90_ms": 20.0},
            "Not faster by more than the spread (17.5 to 20.0 ms, 10th to 90th percentile) than: dense, "
            "20.0 ms in torch.",
            id="the latency",
        ),
    ],
)
def test_what_is_within_the_noise_is_said(changes, words):
    plain = row("prune", 0.5, 2.0, 18.0)
    assert best(advise([DENSE, plain]), "fastest", 0.99).noise == ()
    assert best(advise([DENSE, replace(plain, **changes)]), "fastest", 0.99).noise == (words,)


def test_a_better_file_that_misses_the_share_within_the_noise_is_named():
    rows = [DENSE, row("prune", 0.5, 2.0, 18.0), row("slim", 0.44, 1.0, 8.0, AP_change_high=0.01)]
    chosen = best(advise(rows), "smallest", 0.9)
    assert chosen.technique == "prune"
    assert chosen.noise == ("Smaller, but below 90% by less than the noise: slim (1.00 MB, 88.0%).",)
    rows[2] = replace(rows[2], AP_change_high=-0.055)
    assert best(advise(rows), "smallest", 0.9).noise == ()
    note = advise([DENSE, replace(rows[2], AP_change_high=-0.03)]).notes[0]
    assert note.endswith(
        "The closest is slim in torch: AP 0.440, 88.0%. It misses 90% by less than the noise."
    )


def test_many_close_rows_are_counted():
    rows = [DENSE, *(row("fuse", 0.5, 3.0, 10.0 + i / 10, f"engine{i}") for i in range(4))]
    (line,) = best(advise(rows), "fastest", 0.99).noise
    assert line.endswith("than: fuse, 10.1 ms in engine1; fuse, 10.2 ms in engine2; 1 more.")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([row("prune", 0.5, 2.0, 8.0)], "Without the technique dense or fuse", id="no reference"),
        pytest.param([replace(DENSE, AP=0.004)], "has AP 0.004 here, below 0.01", id="chance"),
        pytest.param(
            [DENSE, row("fuse", 0.5, 3.0, 8.0, AP_change_low=None, AP_change_high=None)],
            "The images were not resampled, so the noise of AP is not known.",
            id="no resamples",
        ),
    ],
)
def test_what_cannot_be_told_is_said(rows, words):
    assert words in advise(rows).notes[-1]


def test_without_dense_its_fused_file_is_the_reference():
    advice = advise([row("fuse", 0.5, 4.0, 20.0), row("prune", 0.5, 2.0, 10.0)])
    assert {one.technique for one in advice.choices} == {"prune"}
