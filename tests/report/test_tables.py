"""Tables for documents: what a cell holds does not change the table."""

import pytest

from sparsity.report.tables import as_latex, as_markdown


@pytest.mark.parametrize(
    ("text", "expected"), [("a|b", r"a\|b"), ("a\nb", "a b"), ("<b>", "&lt;b>"), (r"a\b", r"a\\b"), ("", "")]
)
def test_markdown_is_escaped(text, expected):
    assert as_markdown(["head"], [[text]], "title").splitlines()[4].strip("| ") == expected


def test_markdown_as_a_whole():
    assert as_markdown(["a", "long"], [["1", "2"]], "A title", ["A note."]) == (
        "**A title**\n\n|   a | long |\n| --: | ---: |\n|   1 |    2 |\n\nA note.\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("95%", r"95\%"),
        ("a_b & c", r"a\_b \& c"),
        ("$5 #1 {x}", r"\$5 \#1 \{x\}"),
        (r"a\b", r"a\textbackslash{}b"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
    ],
)
def test_latex_is_escaped(text, expected):
    assert f"{expected} \\\\" in as_latex([text], [], "title")


def test_latex_as_a_whole():
    assert as_latex(["a", "b"], [["1", "2"]], "A\ntitle", ["A note."]) == (
        "% A title\n% A note.\n\\begin{tabular}{rr}\n\\hline\na & b \\\\\n\\hline\n1 & 2 \\\\\n\\hline\n"
        "\\end{tabular}\n"
    )
