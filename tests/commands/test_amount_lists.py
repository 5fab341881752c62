"""The grammar of sparsity levels."""

import pytest

from sparsity import InputError
from sparsity.commands.amount_lists import parse_levels


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        pytest.param("0.3", (0.3,), id="one"),
        pytest.param("0", (0.0,), id="dense"),
        pytest.param("0,0.3,0.5", (0.0, 0.3, 0.5), id="a list"),
        pytest.param("0.5, 0.3 ,0.5", (0.3, 0.5), id="sorted, each once, with blanks"),
        pytest.param("0.1:0.9", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), id="step 0.1 by itself"),
        pytest.param("0.1:0.3:0.05", (0.1, 0.15, 0.2, 0.25, 0.3), id="end included, no dust"),
        pytest.param("0.1:0.35:0.1", (0.1, 0.2, 0.3), id="steps that miss the end"),
        pytest.param("0.4:0.4", (0.4,), id="a range of one"),
        pytest.param("0,0.5:0.7,0.95", (0.0, 0.5, 0.6, 0.7, 0.95), id="ranges in a list"),
    ],
)
def test_levels(text, levels):
    assert parse_levels(text) == levels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("0.9:0.1", "rising", id="reversed"),
        pytest.param("0.1:0.9:0", "step is 0", id="no step"),
        pytest.param("0.1:0.9:-0.1", "step is -0.1", id="a negative step"),
        pytest.param("1.0", "1.0 is outside", id="1.0"),
        pytest.param("0.5:1.5", "is outside", id="over 1"),
        pytest.param("-0.1", "-0.1 is outside", id="negative"),
        pytest.param("30", "30 is outside.* for percentages give 0.3", id="percent"),
        pytest.param("10:90", "for percentages give 0.1:0.9$", id="percentages"),
        pytest.param("10:90:5,95", "for percentages give 0.1:0.9:0.05,0.95$", id="percentages with a step"),
        pytest.param("0.1,30", "30 is outside; from 0 to less than 1 is expected$", id="one percentage"),
        pytest.param("nan", "'nan' is no number", id="nan"),
        pytest.param("0:inf", "'inf' is no number", id="infinity"),
        pytest.param("half", "'half' is no number", id="a word"),
        pytest.param("", "'' is no number", id="nothing"),
        pytest.param("0.1:", "'' is no number", id="an open range"),
        pytest.param("0.1,,0.3", "'' is no number", id="an empty part"),
        pytest.param("0.1:0.5:0.1:0.1", "more than FIRST:LAST:STEP", id="four numbers"),
        pytest.param("0:0.9:1e-9", "larger step", id="a billion levels"),
    ],
)
def test_what_is_no_list_of_levels_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        parse_levels(text)
