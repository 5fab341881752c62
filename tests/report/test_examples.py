"""The pictures of a sweep's page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sparsity.report import plots
from sparsity.report.examples import LOST, SIDE, draw_examples
from sparsity.report.sweep import write_sweep
from sparsity.sweeping.example import Box, Example, Panel, write_examples

CAT = Box((200.0, 100.0, 600.0, 500.0), 0, "cat")
PANELS = (Panel("dense", 1, (CAT,), ()), Panel("l1, 0.5", 0, (), (CAT,)))


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """Draw plots of few pixels: these tests do not look at them."""
    monkeypatch.setattr(plots, "DPI", 20)


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder with an example whose file is stored on its side, and one whose file is gone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    Image.fromarray(noise).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif)
    write_examples(
        tmp_path,
        [Example(str(tmp_path / "a.jpg"), (CAT,), PANELS), Example("gone.jpg", (CAT,), PANELS)],
    )
    return tmp_path


def pixels(link: str) -> np.ndarray:
    head, _, content = link.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)


def test_an_example_has_a_picture_for_each_level(folder):
    (pictures,) = draw_examples(folder)
    assert [one.caption for one in pictures] == ["dense: 1 of 1 found", "l1, 0.5: 0 of 1 found, 1 lost"]
    dense, pruned = (pixels(one.link) for one in pictures)
    assert dense.shape == (315, SIDE, 3), "upright, and small"
    left, top = round(200 * SIDE / 800), round(100 * SIDE / 800)
    dashed = np.abs(pruned[top, left : left + 100] - LOST).max(1) < 80
    assert 20 < dashed.sum() < 80, "a dashed line"
    assert (np.abs(dense[top, left : left + 100] - LOST).max(1) < 80).sum() < 10


def test_the_page_holds_them_and_stays_small(folder, make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, (10, 9, 11)), ("l1", 0.5): (0.4, (10, 9, 11))})
    write_sweep(folder, sweep)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "<h2>Examples</h2>" in page
    assert "l1, 0.5: 0 of 1 found, 1 lost</figcaption>" in page
    assert len(page) < 1_500_000


def test_a_sweep_without_examples_has_no_section(tmp_path, make_sweep):
    sweep = make_sweep({("l1", 0.0): (0.5, (10, 9, 11)), ("l1", 0.5): (0.4, (10, 9, 11))})
    write_sweep(tmp_path, sweep)
    assert "<h2>Examples</h2>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
