"""The sentences of a report agree with the figures."""

from dataclasses import replace

import pytest

from sparsity.report.fastest import fastest
from sparsity.report.findings import findings

SAME = (10.0, 9.0, 11.0)


def test_the_largest_sparsity_that_keeps_enough(usual):
    text = findings(usual)
    assert text[0] == "Dense: AP 0.500, AP50 0.500 on 9 images."
    assert [line.split(": ")[1] for line in text[1:4]] == [
        f"the largest sparsity that keeps {share} of the dense AP is 0.1 (AP 0.496, 99.2%)."
        for share in ("99%", "95%", "90%")
    ]
    assert text[4].endswith("keeps 99% of the dense AP; the smallest, 0.1, keeps 96.0% (AP 0.480).")
    assert text[5].endswith("keeps 95% of the dense AP is 0.1 (AP 0.480, 96.0%).")
    assert text[6].endswith("keeps 90% of the dense AP is 0.5 (AP 0.450, 90.0%).")


def test_what_is_missed_is_said_once(make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.4, SAME)})
    assert [line for line in findings(sweep) if "no tested sparsity" in line] == [
        "l1 (magnitude, the same sparsity in each layer): no tested sparsity keeps 90% of the dense AP; "
        "the smallest, 0.5, keeps 80.0% (AP 0.400)."
    ]


def test_zeros_that_buy_nothing_are_called_so(usual):
    assert "Zeros give no speedup" in findings(usual)[-1]
    assert "(speedups 0.97x to 1.02x)" in findings(usual)[-1]


@pytest.mark.parametrize(
    ("latency", "words", "absent"),
    [
        pytest.param(
            (5.0, 4.0, 8.9), "Faster by more than the spread: l1 0.5 (2.00x)", "no speed", id="faster"
        ),
        pytest.param((7.0, 6.0, 9.0), "Zeros give no speedup", "Faster", id="spreads touch"),
        pytest.param(
            (20.0, 16.0, 30.0), "Slower by more than the spread: l1 0.5 (0.50x)", "Faster", id="slower"
        ),
    ],
)
def test_speed(make_sweep, latency, words, absent):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.4, latency)})
    assert words in findings(sweep)[-1]
    assert absent not in findings(sweep)[-1]


def test_an_unsteady_clock_tells_nothing(make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.4, (10.0, 8.0, 17.0))})
    assert "too unsteady to show" in findings(sweep)[-1]
    assert "no speedup" not in findings(sweep)[-1]


def test_a_level_is_compared_with_the_dense_network_of_its_own_group(make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.4, (7.1, 7.0, 7.2))})
    sweep.frame.loc[1, ["latency_dense_p10_ms_b1", "latency_dense_p90_ms_b1"]] = (6.9, 7.3)
    assert "Faster" not in findings(sweep)[-1]


@pytest.mark.parametrize("dense", [0.0, -1.0, 0.0004, 0.0099])
def test_a_dense_network_that_finds_nothing(make_sweep, dense):
    sweep = make_sweep({("l1", 0.0): (dense, SAME), ("l1", 0.5): (0.0005, SAME)})
    text = "\n".join(findings(sweep))
    assert f"the dense network has AP {dense:.3f} here, below 0.01, so nothing can be told" in text
    assert "keeps" not in text.replace("pruning keeps", "")


def test_from_the_floor_on_shares_are_told(make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.01, SAME), ("l1", 0.5): (0.0099, SAME)})
    assert "the largest sparsity that keeps 99% of the dense AP is 0.5" in findings(sweep)[1]


def test_the_fastest_that_keeps_enough(make_sweep):
    sweep = make_sweep(
        {
            ("l1", 0.0): (0.5, SAME),
            ("l1", 0.3): (0.498, (11.0, 10.0, 12.0)),
            ("l1", 0.5): (0.48, (8.0, 7.0, 8.9)),
            ("obs", 0.7): (0.45, (5.0, 4.0, 6.0)),
            ("obs", 0.9): (0.1, (1.0, 0.9, 1.1)),
        }
    )
    assert fastest(sweep.frame, 1) == (
        "Batch 1. Fastest that keeps 90% of the dense AP: obs 0.7 (5.0 ms, 2.00x the dense network, AP "
        "0.450, 90.0%). Fastest that keeps 95% of the dense AP: l1 0.5 (8.0 ms, 1.25x the dense network, AP "
        "0.480, 96.0%). Fastest that keeps 99% of the dense AP: the dense network (10.0 ms, AP 0.500, "
        "100.0%)."
    )
    assert fastest(sweep.frame, 1) in findings(sweep)


def test_the_fastest_is_compared_with_the_dense_network_in_its_fastest_engine(in_two_engines):
    frame = in_two_engines(0.0).frame
    assert frame.speedup_over_best_dense_b1.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert frame.speedup_b1.tolist() == [1.0] * 4
    frame.loc[3, ["AP", "latency_ms_b1", "latency_p90_ms_b1", "speedup_over_best_dense_b1"]] = (
        *(0.49, 10.0, 11.0),
        2.0,
    )
    assert "l1 0.5 in onnxruntime (10.0 ms, 2.00x the dense network in onnxruntime, AP 0.490" in fastest(
        frame, 1
    )


def test_a_gain_within_the_spread_is_called_so(make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.5, (9.5, 8.0, 10.5))})
    assert fastest(sweep.frame, 1) == (
        "Batch 1. Fastest that keeps 90%, 95% and 99% of the dense AP: l1 0.5 (9.5 ms, not faster than "
        "the dense network by more than the spread, AP 0.500, 100.0%)."
    )


def test_which_methods_differ_beyond_chance(usual):
    assert findings(usual)[7:9] == [
        "Sparsity 0.1, differences in AP whose 95% interval excludes 0: l1 is above l1 global.",
        "Sparsity 0.5, differences in AP whose 95% interval excludes 0: l1 global is above l1.",
    ]


def test_methods_that_differ_by_chance_alone(make_sweep):
    sweep = make_sweep(
        {("l1", 0.0): (0.5, SAME), ("lamp", 0.5): (0.4, SAME), ("obs", 0.5): (0.404, SAME)},
    )
    assert "differences in AP whose 95% interval excludes 0: none." in findings(sweep)[-4]
    assert findings(sweep)[2].startswith(
        "obs (least squares on calibration images, allocated by the measured cost of each"
    )


def test_the_dense_network_alone(make_sweep):
    assert len(findings(make_sweep({("l1", 0.0): (0.5, SAME)}))) == 1


def test_engines_that_agree(in_two_engines):
    text = "\n".join(findings(in_two_engines(0.001)))
    assert "AP in onnxruntime differs from AP in torch by at most 0.0010 at every level." in text
    assert (
        "Batch 1, the dense network in each engine: torch 40.0 ms (1.00x), onnxruntime 20.0 ms (2.00x)."
        in text
    )
    assert "Batch 1, torch: the dense network takes 40.0 ms" in text
    assert "ONNX Runtime multiplies by zero as by any other number." in text
    assert text.count("no tested sparsity keeps 90%") == 1, "methods are judged in the first engine"


def test_engines_that_differ_are_flagged(in_two_engines):
    text = "\n".join(findings(in_two_engines(-0.003)))
    assert "WARNING: AP in onnxruntime differs from AP in torch by more than 0.002: l1 0.5 (-0.003)." in text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (4.0, "the .pt still has 4.00 MB, because a zero takes"),
        (2.5, "the .pt has 2.50 MB. The compressed form"),
    ],
)
def test_a_pt_without_dead_channels_is_called_smaller(usual, size, words):
    frame = usual.frame.assign(size_pt_mb=size, channels_removed=9)
    assert words in "\n".join(findings(replace(usual, frame=frame)))
