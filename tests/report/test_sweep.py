"""The files of a sweep: same figures everywhere, same bytes every time."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import cv2
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sparsity.report import plots
from sparsity.report.columns import summarise
from sparsity.report.guide import GUIDE
from sparsity.report.plots import plot_layers, plot_panels, plot_sweep
from sparsity.report.styles import COLOURS, MARKERS
from sparsity.report.sweep import default_title, format_sweep, write_sweep
from sparsity.sweeping.intervals import COLUMNS
from sparsity.sweeping.table import batch_sizes, with_stages

SAME = (10.0, 9.0, 11.0)
FILES = (
    *("sweep.csv", "sweep.md", "sweep.tex", "sweep.json", "sweep.png", "sweep.svg", "layers.png"),
    "report.html",
)
TEN = [
    *("method", "sparsity", "AP", "change (95% interval)", "AP50", "multiply-adds, 1e9"),
    *("ms at batch 1", "speedup", "MB"),
]
"""The columns of the first table. With several engines, engine is added; with multiply-adds, those are."""


class Page(HTMLParser):
    """Collects the cells of the table of rows, the links, and the list of findings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[list[str]] = []
        self.links: list[str] = []
        self.heads, self.items, self._inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [value for name, value in attrs.items() if name in ("src", "href")]
        if tag == "tr":
            self.values.append([])
        if "data-value" in attrs:
            self.values[-1].append(attrs["data-value"])
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "button":
            self.heads.append(data.strip())
        if self._inside == "li" and data.strip():
            self.items.append(data.strip())

    def handle_endtag(self, _tag):
        self._inside = ""


@pytest.fixture(scope="module")
def folder(make_usual, tmp_path_factory) -> Path:
    """Return the folder of a written sweep, which tests only read."""
    folder = tmp_path_factory.mktemp("usual")
    write_sweep(folder, make_usual(), GUIDE)
    return folder


@pytest.fixture
def coarse(monkeypatch) -> None:
    """Draw plots of few pixels, for tests that do not look at them."""
    monkeypatch.setattr(plots, "DPI", 20)


def test_every_file_is_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_the_csv_is_the_frame(usual, folder):
    read = pd.read_csv(folder / "sweep.csv")
    assert read["head"].isna().all(), "an empty text is read as nothing"
    pd.testing.assert_frame_equal(read.assign(head=""), usual.frame, check_exact=True)


def test_the_page_shows_the_csvs_figures(folder):
    frame, page = pd.read_csv(folder / "sweep.csv"), Page((folder / "report.html").read_text())
    frame = frame.drop(index=3)  # the dense row, repeated for the second method
    frame.loc[0, "method"] = "dense"
    rows, heads = [values for values in page.values if values], page.heads[len(TEN) : -len(COLUMNS)]
    for values, expected in zip(rows[len(frame) : 2 * len(frame)], frame.to_dict("records"), strict=True):
        for name, value in zip(heads, values, strict=True):
            assert value == str(expected[name])
    assert {"AP", "AP_drop", "AP_change_low", "latency_ms_b1", "speedup_b1", "prune_seconds"} <= set(heads)


def test_page_and_json_hold_the_differences_between_methods(usual, folder):
    page = Page((folder / "report.html").read_text())
    rows = [values for values in page.values if values][-len(usual.differences) :]
    assert page.heads[-len(COLUMNS) :] == list(COLUMNS)
    assert rows == [[str(value) for value in row] for row in usual.differences.itertuples(index=False)]
    assert [row[:3] for row in rows] == [["0.1", "l1", "l1 global"], ["0.5", "l1", "l1 global"]]
    saved = json.loads((folder / "sweep.json").read_text())["differences"]
    assert saved == usual.differences.to_dict("records")


@pytest.mark.usefixtures("coarse")
def test_without_resampled_images_nothing_is_said_of_them(usual, tmp_path):
    plain = [name for name in usual.frame if not name.startswith(("AP_change", "AP_share"))]
    sweep = replace(usual, frame=usual.frame[plain], differences=pd.DataFrame(columns=list(COLUMNS)))
    write_sweep(tmp_path, sweep, GUIDE)
    assert "Methods at equal sparsity" not in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "sweep.json").read_text())["differences"] == []
    assert "95%" not in format_sweep(sweep).splitlines()[0]


@pytest.mark.usefixtures("coarse")
def test_intervals_that_are_none(usual, tmp_path):
    usual.frame[["AP_change_low", "AP_change_high", "AP_share_above"]] = float("nan")
    usual.differences[["low", "high", "share_above"]] = float("nan")
    write_sweep(tmp_path, usual, GUIDE)
    saved = json.loads((tmp_path / "sweep.json").read_text())
    assert saved["rows"][1]["AP_change_low"] is None
    assert saved["differences"][0]["low"] is None
    assert "differences in AP whose 95% interval excludes 0: none." in format_sweep(usual)


def test_eight_methods_can_be_told_apart(make_sweep, tmp_path):
    labels = ("l1", "l1 global", "lamp", "erk", "measured", "obs", "obs layer", "obs global")
    levels = {(label, 0.5): (0.1 * number, SAME) for number, label in enumerate(labels)}
    sweep = make_sweep({("l1", 0.0): (0.9, SAME), **levels})
    write_sweep(tmp_path, sweep, GUIDE)
    assert len(set(MARKERS)) >= len(labels) <= len(set(COLOURS))
    assert all(f"{label} (" in format_sweep(sweep) for label in labels)


def test_the_page_needs_no_network(folder):
    text = (folder / "report.html").read_text()
    links = Page(text).links
    assert len(links) == 4
    assert all(link.startswith("data:image/") for link in links)
    assert not re.findall(r"https?://", re.sub(r"data:[^\"]*", "", text))


def test_the_page_says_the_findings(folder):
    assert "Zeros give no speedup" in Page((folder / "report.html").read_text()).items[-1]


@pytest.mark.parametrize("title", [r"fig $\sparsity$", "$5 vs $10", "caf\udce9", "\u7a00\u758f \U0001f680"])
def test_any_title_can_be_drawn(usual, tmp_path, title, recwarn):
    write_sweep(tmp_path, usual, GUIDE, title)
    assert (tmp_path / "report.html").exists()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("title", ["<script>alert(1)</script>", 'a "quoted" & title'])
def test_titles_are_escaped(usual, tmp_path, title):
    write_sweep(tmp_path, usual, GUIDE, title)
    text = (tmp_path / "report.html").read_text()
    assert title not in text
    assert json.loads((tmp_path / "sweep.json").read_text())["title"] == title


def test_the_json_holds_rows_and_environment(usual, folder):
    saved = json.loads((folder / "sweep.json").read_text())
    assert [row["AP"] for row in saved["rows"]] == usual.frame.AP.tolist()
    assert saved["environment"]["device"] == "CPU"
    assert saved["command"] == "python sweep.py 0.1:0.9"


@pytest.mark.parametrize("name", ["sweep.png", "layers.png"])
def test_plots_are_pictures_with_something_on_them(folder, name):
    pixels = cv2.imread(str(folder / name))
    assert min(pixels.shape[:2]) > 300
    assert (pixels < 128).any(axis=2).mean() > 0.002


def test_the_same_sweep_gives_the_same_bytes(usual, folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_sweep(other, usual, GUIDE)
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.usefixtures("coarse")
def test_the_guides_points_are_marked_for_its_model_alone(usual, tmp_path):
    for weights in ("some/yolov5x.pt", "yolov5l.pt"):
        usual.about["weights"] = weights
        (tmp_path / weights[-4]).mkdir()
        write_sweep(tmp_path / weights[-4], usual, GUIDE)
    with_marks, without = ((tmp_path / letter / "sweep.svg").read_text() for letter in "xl")
    assert "guide (COCO val2017)" in with_marks
    assert "guide" not in without


@pytest.mark.usefixtures("coarse")
def test_what_was_not_measured_is_null_in_json(usual, tmp_path):
    usual.frame.loc[0, "speedup_b1"] = float("nan")
    write_sweep(tmp_path, usual, GUIDE)
    assert json.loads((tmp_path / "sweep.json").read_text())["rows"][0]["speedup_b1"] is None


def test_the_printed_table(usual):
    lines = format_sweep(usual).splitlines()
    assert lines[1].split() == [
        "dense",
        "0",
        "0.500",
        "0.500",
        "0.500",
        "10.0",
        "(9.0-11.0)",
        "1.00x",
        "4.00",
    ]
    assert lines[2].split()[:6] == ["l1", "0.1", "0.496", "-0.004", "-0.014", "+0.006"]
    assert lines[4].split()[:5] == ["l1", "global", "0.1", "0.480", "-0.020"]
    assert len({len(line) for line in lines[:6]}) == 1


def test_batch_sizes_of_a_frame(usual):
    assert batch_sizes(usual.frame) == [1]


def test_the_table_has_a_column_for_engines_where_there_are_several(in_two_engines, usual):
    lines = format_sweep(in_two_engines(0.0)).splitlines()
    assert [line.split()[:3] for line in lines[:5]] == [
        ["engine", "method", "sparsity"],
        ["torch", "dense", "0"],
        ["torch", "l1", "0.5"],
        ["onnxruntime", "dense", "0"],
        ["onnxruntime", "l1", "0.5"],
    ]
    assert len({len(line) for line in lines[:5]}) == 1
    assert "engine" not in format_sweep(usual).splitlines()[0]


def test_the_page_shows_the_columns_that_matter_first(usual, folder):
    page = Page((folder / "report.html").read_text())
    assert page.heads[: len(TEN)] == TEN
    assert len(page.heads) > 30, "the others come on demand"
    summary = summarise(usual.frame)
    assert summary.heads == TEN
    assert summary.texts[:2] == [
        ["dense", "0", "0.500", "", "0.500", "0.50", "10.0 (9.0 to 11.0)", "1.00x", "4.00"],
        [
            *("l1", "0.1", "0.496", "-0.004 (-0.014 to +0.006)", "0.500", "0.50"),
            *("10.1 (9.1 to 11.2)", "n.s.", "3.70"),
        ],
    ]
    assert [row[0] for row in summary.texts] == ["dense", "l1", "l1", "l1 global", "l1 global"]


@pytest.mark.parametrize(
    ("latency", "speedup"),
    [
        pytest.param((5.0, 4.0, 8.9), "2.00x", id="faster"),
        pytest.param((2.4, 1.0, 9.1), "n.s.", id="large, but within the spread"),
        pytest.param((20.0, 16.0, 30.0), "0.50x", id="slower"),
        pytest.param((20.0, 10.9, 30.0), "n.s.", id="slower, within the spread"),
    ],
)
def test_speedups_within_the_spread_are_nowhere_printed(make_sweep, tmp_path, latency, speedup):
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), ("l1", 0.5): (0.4, latency)})
    assert summarise(sweep.frame).texts[1][-2] == speedup
    lines = format_sweep(sweep).splitlines()
    assert lines[2].split()[-2] == speedup
    assert ("n.s.: no significant" in "\n".join(lines)) == (speedup == "n.s.")
    assert (sweep.frame.speedup_b1 == 10.0 / sweep.frame.latency_ms_b1).all(), "the CSV has every figure"


def test_the_head_has_a_column_where_there_is_a_choice(usual):
    assert "head" not in summarise(usual.frame).heads
    summary = summarise(usual.frame.assign(head="one2one"))
    assert summary.heads[0] == "head"
    assert {row[0] for row in summary.texts} == {"one2one"}


def test_engines_have_a_column_where_there_are_several(in_two_engines, usual):
    summary = summarise(in_two_engines(0.0).frame)
    assert summary.heads[0] == "engine"
    assert [row[:2] for row in summary.texts] == [
        ["torch", "dense"],
        ["torch", "l1"],
        ["onnxruntime", "dense"],
        ["onnxruntime", "l1"],
    ]
    assert "multiply-adds, 1e9" in summarise(usual.frame).heads


def test_without_latency_none_is_promised(usual, tmp_path):
    timed = [name for name in usual.frame if name.startswith(("latency", "speedup"))]
    sweep = replace(usual, frame=usual.frame.drop(columns=timed))
    write_sweep(tmp_path, sweep, GUIDE)
    page = re.sub(r"data:[^\"]*", "", (tmp_path / "report.html").read_text()).lower()
    assert "latency" not in page
    assert "speedup" not in page
    assert "latency" not in (tmp_path / "sweep.md").read_text().lower()
    assert list(plot_panels(sweep.frame)) == ["AP against sparsity"]


def test_the_tables_for_documents(usual, folder):
    lines = (folder / "sweep.md").read_text().splitlines()
    assert lines[0] == "**n.pt on shapes**"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert table[0] == TEN
    assert table[2:] == summarise(usual.frame).texts
    latex = (folder / "sweep.tex").read_text()
    assert r"method & sparsity & AP & change (95\% interval) & AP50" in latex
    assert r"l1 & 0.1 & 0.496 & -0.004 (-0.014 to +0.006) & 0.500" in latex
    assert latex.count(r"\\") == len(usual.frame)
    assert latex.startswith("% n.pt on shapes\n")


@pytest.mark.parametrize(
    ("weights", "data", "title"),
    [
        ("demo", "demo", "the demo's yolov5n on its 9 drawn images"),
        ("best.pt", "demo", "best.pt on the demo's 9 drawn images"),
        ("demo", "my.yaml", "the demo's yolov5n on my.yaml"),
        ("runs/best.pt", "sets/my.yaml", "best.pt on my.yaml"),
        ("./demo", "./demo", "demo on demo"),
        ("", "my.yaml", "network on my.yaml"),
    ],
)
def test_titles_say_what_ran(usual, weights, data, title):
    usual.about.update(weights=weights, data=data)
    assert default_title(usual) == title


@pytest.mark.parametrize("title", ["x" * 300, "a long title of many words " * 20, "one word"])
def test_titles_are_inside_the_figure(usual, title):
    for figure in (plot_sweep(usual.frame, title), plot_layers(usual.layers, title)):
        figure.draw_without_rendering()
        extent = figure._suptitle.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.x1
        assert extent.y1 <= figure.bbox.y1


def test_labels_of_the_trade_do_not_touch(make_sweep):
    levels = {("l1", amount / 20): (0.5 - 0.004 * amount, SAME) for amount in range(1, 19)}
    sweep = make_sweep({("l1", 0.0): (0.5, SAME), **levels})
    figure = plot_panels(sweep.frame)["AP against latency"]
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) > 3
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(axis.bbox.y1 >= box.y1 for box in boxes), "below the title"


@pytest.mark.parametrize(
    ("aps", "from_zero"), [((0.7, 0.3), True), ((0.7, 0.65), False), ((0.7, 0.0), True), ((0.0, 0.0), True)]
)
def test_where_ap_starts(make_sweep, aps, from_zero):
    sweep = make_sweep({("l1", 0.0): (aps[0], SAME), ("l1", 0.5): (aps[1], SAME)})
    (axis,) = plot_panels(sweep.frame)["AP against latency"].axes
    assert (axis.get_ylim()[0] == 0) == from_zero


@pytest.mark.parametrize(
    ("budget", "label"),
    [
        ("weights", "sparsity of the convolutions' weights"),
        ("flops", "sparsity of weights; with flops, of multiply-adds"),
    ],
)
def test_the_axis_says_what_sparsity_is_a_share_of(usual, budget, label):
    axis = Figure().add_subplot()
    plots._sparsity_axis(axis, usual.frame.assign(budget=budget))
    assert axis.get_xlabel() == label


def test_levels_before_and_after_training_are_two_curves(usual, tmp_path):
    stages = ["one-shot"] * 3 + ["fine-tuned"] * 3
    frame = usual.frame.assign(method="l1", stage=stages, train_seconds=2.0)
    sweep = replace(usual, frame=frame)
    write_sweep(tmp_path, sweep, GUIDE)
    assert pd.read_csv(tmp_path / "sweep.csv").method.unique().tolist() == ["l1"]
    accuracy, latency, trade = (figure.axes[0] for figure in plot_panels(with_stages(frame)).values())
    for axis in (accuracy, trade):
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        assert any("l1, fine-tuned" in label for label in labels)
        assert any(label in ("l1", "AP, l1") for label in labels)
    assert [text.get_text() for text in latency.get_legend().get_texts()] == ["batch 1, l1"], "measured once"
    assert [row[0] for row in summarise(with_stages(frame)).texts] == [
        *("dense", "l1", "l1", "l1, fine-tuned", "l1, fine-tuned")
    ]
    page = (tmp_path / "report.html").read_text()
    assert "l1: fine-tuning changes AP by -0.016 at 0.1, +0.200 at 0.5." in page
    assert "train_seconds" in page
    assert "l1, fine-tuned (" in page, "what it keeps is said"
