"""Which layers the table of sensitivity recommends to keep."""

import pandas as pd
import pytest

from sparsity.report.layer_sensitivity import format_sensitivity


def rows(dense: float, drops: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **{"layer": f"model.{i}.conv", "weights": 9, "amount": amount, "output_error": 0.1},
                **{"AP": dense - amount * drop, "AP_drop": amount * drop},
            }
            for i, drop in enumerate(drops)
            for amount in (0.5, 1.0)
        ]
    )


@pytest.mark.parametrize(
    ("dense", "drops", "words"),
    [
        pytest.param(
            0.5, [0.1, 0.0, 0.3], "--keep model.2.conv --keep model.0.conv", id="only those that cost"
        ),
        pytest.param(0.5, [0.0004, 0.0002], "none needs --keep", id="+0.000"),
        pytest.param(0.5, [0.0049, 0.0], "as much as 1% of the dense AP (0.500)", id="below 1%"),
        pytest.param(0.5, [0.0051, 0.0], "--keep model.0.conv", id="above 1%"),
        pytest.param(0.5, [-0.1, 0.0], "none needs --keep", id="gains"),
        pytest.param(0.02, [0.0004, 0.0], "none needs --keep", id="1% that is printed as 0.000"),
        pytest.param(0.0, [0.0, 0.0], "AP 0.000 here, below 0.01, so nothing can be told", id="no AP"),
        pytest.param(0.009, [0.008, 0.0], "so nothing can be told", id="AP below the floor"),
    ],
)
def test_only_drops_that_matter_are_recommended(dense, drops, words):
    text = format_sensitivity(rows(dense, drops))
    assert text.endswith(words) or words in text.splitlines()[-1]
    assert text.count("--keep model") == words.count("--keep model")
