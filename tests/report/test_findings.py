"""What the words say is what the figures say."""

import pytest

from sparsity.report.findings import findings

SAME = (10.0, 9.0, 11.0)


def test_the_largest_sparsity_that_keeps_enough(usual):
    text = findings(usual.frame)
    assert text[0] == "Dense: AP 0.500, AP50 0.500 on 9 images."
    assert [line.split(": ")[1] for line in text[1:4]] == [
        f"the largest sparsity that keeps {share} of the dense AP is 0.1 (AP 0.496, 99.2%)."
        for share in ("99%", "95%", "90%")
    ]
    assert text[4].endswith("keeps 99% of the dense AP; the smallest, 0.1, keeps 96.0% (AP 0.480).")
    assert text[5].endswith("keeps 95% of the dense AP is 0.1 (AP 0.480, 96.0%).")
    assert text[6].endswith("keeps 90% of the dense AP is 0.5 (AP 0.450, 90.0%).")


def test_zeros_that_buy_nothing_are_called_so(usual):
    assert "Zeros bought no speed" in findings(usual.frame)[-1]
    assert "(speedups 0.97x to 1.02x)" in findings(usual.frame)[-1]


@pytest.mark.parametrize(
    ("latency", "words", "absent"),
    [
        pytest.param((5.0, 4.0, 8.9), "Faster beyond the spread: layer 0.5 (2.00x)", "no speed", id="faster"),
        pytest.param((7.0, 6.0, 9.0), "Zeros bought no speed", "Faster", id="spreads touch"),
        pytest.param(
            (20.0, 16.0, 30.0), "Slower beyond the spread: layer 0.5 (0.50x)", "Faster", id="slower"
        ),
    ],
)
def test_speed(make_sweep, latency, words, absent):
    frame = make_sweep({("layer", 0.0): (0.5, SAME), ("layer", 0.5): (0.4, latency)}).frame
    assert words in findings(frame)[-1]
    assert absent not in findings(frame)[-1]


def test_an_unsteady_clock_tells_nothing(make_sweep):
    frame = make_sweep({("layer", 0.0): (0.5, SAME), ("layer", 0.5): (0.4, (10.0, 8.0, 17.0))}).frame
    assert "too unsteady to tell" in findings(frame)[-1]
    assert "no speed:" not in findings(frame)[-1]


def test_a_level_is_compared_with_the_dense_network_of_its_own_group(make_sweep):
    frame = make_sweep({("layer", 0.0): (0.5, SAME), ("layer", 0.5): (0.4, (7.1, 7.0, 7.2))}).frame
    frame.loc[1, ["latency_dense_p10_ms_b1", "latency_dense_p90_ms_b1"]] = (6.9, 7.3)
    assert "Faster" not in findings(frame)[-1]


@pytest.mark.parametrize("dense", [0.0, -1.0])
def test_a_dense_network_that_finds_nothing(make_sweep, dense):
    frame = make_sweep({("layer", 0.0): (dense, SAME), ("layer", 0.5): (0.0, SAME)}).frame
    assert "nothing can be kept" in findings(frame)[1]


def test_the_dense_network_alone(make_sweep):
    assert len(findings(make_sweep({("layer", 0.0): (0.5, SAME)}).frame)) == 1
