"""The files of a comparison: the same figures in the CSV, in the tables for documents and in the page."""

import html
import re
from pathlib import Path

import pandas as pd
import pytest

from sparsity.comparing.row import ComparedRow
from sparsity.report.comparison import SHOWN, format_comparison, write_comparison

FILES = ("compare.csv", "compare.md", "compare.tex", "compare.png", "compare.html")


def row(technique: str, engine: str, **changes) -> ComparedRow:
    values = {
        **{"AP": 0.7212, "AP50": 0.9, "latency_ms": 12.34, "latency_p10_ms": 11.0, "latency_p90_ms": 14.0},
        **{"peak_memory_mb": 512.0, "file": "n.safetensors", "file_mb": 3.21, "parameters": 1769989},
        **{"gflops": 1.05, "sparsity": 0.0, "seconds": 3.0, "note": "as trained", "commands": "val --x <y>"},
    }
    return ComparedRow(technique=technique, engine=engine, **(values | changes))


@pytest.fixture(scope="module")
def rows() -> list[ComparedRow]:
    made = {"path": "r/n.safetensors", "made_by": "val --save 'r/<n>.safetensors'"}
    return [
        row("dense", "torch"),
        row("prune", "torch", AP=0.65, sparsity=0.5, note="half, by l1", file_mb=1.5, **made),
    ]


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder, rows, "a <title>, 320 px", "CPU (2 threads)", {"command": "compare --demo"})
    return folder


def test_every_file_is_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_the_page_has_every_figure_and_needs_no_network(folder):
    text = (folder / "compare.html").read_text()
    frame = pd.read_csv(folder / "compare.csv", keep_default_na=False)
    values = re.findall(r'data-value="([^"]*)"', text)
    shown = len(SHOWN) + 3
    assert values[:shown][:2] == ["dense", "torch"]
    full = values[2 * shown :]
    written = [str(value) for one in frame.itertuples(index=False) for value in one]
    assert list(map(html.unescape, full)) == written
    assert "<n>" not in text
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(links) == 4, "a plot for each panel, one below the other where there is little room"
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not re.findall(r"https?://", re.sub(r"data:image[^\"]*", "", text))
    assert "<title>a &lt;title&gt;, 320 px</title>" in text
    for words in ("dense: as trained.", "prune: half, by l1.", "compare --demo", "CPU (2 threads)"):
        assert words in text


def test_the_page_begins_with_what_to_take(folder):
    text = (folder / "compare.html").read_text()
    start = text[: text.index("<h2>Plots</h2>")]
    assert "For this data and this CPU (CPU (2 threads)):" in start
    assert "Smallest that keeps 90% of the dense AP (0.721): prune, 1.50 MB" in start
    assert "<pre>val --save &#39;r/&lt;n&gt;.safetensors&#39;</pre>" in start


def test_the_tables_are_those_of_the_terminal(rows, folder):
    printed = format_comparison(rows).splitlines()
    marked = [line for line in (folder / "compare.md").read_text().splitlines() if line.startswith("|")]
    heads = [cell.strip() for cell in marked[0].strip("|").split("|")]
    assert " ".join(printed[0].split()) == " ".join(heads)
    assert [cell.strip() for cell in marked[3].strip("|").split("|")] == printed[2].split()
    latex = (folder / "compare.tex").read_text()
    assert r"prune & torch & .safetensors & 0.650" in latex
    assert latex.count(r"\\") == 3
