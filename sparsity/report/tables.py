"""Tables as text for documents: Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

_MARKDOWN = str.maketrans({"\\": "\\\\", "|": "\\|", "\n": " ", "<": "&lt;"})
_LATEX = str.maketrans(
    {
        **{one: f"\\{one}" for one in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\n": " ",
    }
)


def as_markdown(
    heads: Sequence[str], rows: Sequence[Sequence[str]], title: str, notes: Sequence[str] = ()
) -> str:
    """Return a table in Markdown (GitHub's form), aligned to the right: below the title, above the notes."""
    lines = [[_markdown(text) for text in row] for row in (heads, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    marks = ["-" * (width - 1) + ":" for width in widths]
    table = [
        "| " + " | ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], marks, *lines[1:])
    ]
    below = (f"\n{_markdown(note)}" for note in notes)
    return "\n".join([f"**{_markdown(title)}**\n", *table, *below]) + "\n"


def as_latex(
    heads: Sequence[str], rows: Sequence[Sequence[str]], title: str, notes: Sequence[str] = ()
) -> str:
    """Return a tabular in LaTeX, which needs no package, aligned to the right.

    The title and the notes are comments above it.
    """
    lines = [" & ".join(_latex(text) for text in row) + r" \\" for row in (heads, *rows)]
    comments = [f"% {' '.join(note.splitlines())}" for note in (title, *notes)]
    start = rf"\begin{{tabular}}{{{'r' * len(heads)}}}"
    return "\n".join([*comments, start, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]) + (
        "\n\\end{tabular}\n"
    )


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
