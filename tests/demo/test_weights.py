"""The demo's detector is small, and finds what is drawn."""

import cv2
import pytest

from sparsity import ValidationSettings, load, validate
from sparsity.data.downloads import ensure_weights
from sparsity.demo import data as demo
from sparsity.demo.data import WEIGHTS
from sparsity.demo.drawing import CLASSES


def test_it_is_small_and_of_the_scenes_classes():
    assert WEIGHTS.stat().st_size < 4_000_000
    assert load(WEIGHTS).names == CLASSES


def test_it_is_called_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").touch()
    assert ensure_weights("demo") == WEIGHTS
    assert ensure_weights("./demo") != WEIGHTS, "a file of the user's own"


def test_it_finds_what_is_drawn(tmp_path):
    data = demo._ensure(tmp_path / "demo", {"train": 1, "val": 24})
    assert cv2.imread(str(next((tmp_path / "demo" / "images" / "val").iterdir()))).shape == (320, 320, 3)
    settings = ValidationSettings(imgsz=demo.IMGSZ, device="cpu")
    average_precision = validate(load(WEIGHTS), data, settings).metrics.AP
    assert average_precision == pytest.approx(0.7, abs=0.15)
