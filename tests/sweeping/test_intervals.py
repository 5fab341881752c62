"""Intervals of a sweep's differences in AP, with and without resamples."""

import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.evaluation.bootstrap import bootstrap, load
from sparsity.evaluation.coco import Matched
from sparsity.pruning.method import Method
from sparsity.sweeping.intervals import COLUMNS, change, differences, resample
from sparsity.sweeping.level import Level, plan
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import Store
from sparsity.sweeping.sweep import run_sweep
from sparsity.timing.latency import Rounds
from sparsity.validation.settings import ValidationSettings

DENSE = Level(Method(), 0.0)
LEVELS = plan([0.3, 0.5], [Method(), Method("l1", "global")])
SETTINGS = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=1)


def matched(right: int, boxes: int = 1) -> Matched:
    """Return the matches of ten images with a box each; the boxes of the first few are found."""
    ids, image = np.arange(10), np.arange(right, dtype=np.int32)
    hits = np.ones((right, 10), bool)
    truth = np.full((10, 1), boxes, np.int32)
    return Matched(ids, np.array([1]), truth, image, np.zeros_like(image), hits, ~hits)


@pytest.fixture
def store(tmp_path) -> Store:
    """Return a store of five levels. Each finds the boxes of two images less than the level before."""
    store = Store(tmp_path)
    for number, level in enumerate(LEVELS):
        store.level_folder(level)
        matched(10 - 2 * number).save(store.matched_path(level))
    return store


def test_every_level_is_resampled_alike_and_read_one_by_one(store):
    ticks: list[None] = []
    resampled = resample(store, LEVELS, 50, lambda: ticks.append(None))
    loaded = {level.key: load(store.matched_path(level)) for level in LEVELS}
    assert resampled.samples.equals(bootstrap(loaded, samples=50).samples)
    assert len(ticks) == len(LEVELS) + 1


def test_change_and_differences(store):
    resampled = resample(store, LEVELS, 50, lambda: None)
    assert change(resampled, DENSE).low == change(resampled, DENSE).high == 0
    assert change(resampled, LEVELS[-1]).high < 0
    table = differences(resampled, LEVELS)
    assert tuple(table.columns) == COLUMNS
    assert table[["amount", "method", "other"]].to_numpy().tolist() == [
        [0.3, "l1", "l1 global"],
        [0.5, "l1", "l1 global"],
    ]
    assert (table.difference > 0).all()


def test_without_resamples(store):
    assert resample(store, LEVELS, 0, lambda: None) is None
    assert change(None, LEVELS[1]) is None
    assert differences(None, LEVELS).empty
    assert tuple(differences(None, LEVELS).columns) == COLUMNS


def test_images_without_true_boxes_have_no_interval(store):
    for level in LEVELS:
        matched(0, boxes=0).save(store.matched_path(level))
    resampled = resample(store, LEVELS, 20, lambda: None)
    assert np.isnan(change(resampled, LEVELS[1]).low)
    assert differences(resampled, LEVELS).low.isna().all()


def wanted(bootstrap: int) -> SweepSettings:
    quick = {"batch_sizes": (), "validation": SETTINGS, "rounds": Rounds(0, 2, 2)}
    return SweepSettings([0.5], (Method(),), **quick, bootstrap=bootstrap)


@pytest.mark.parametrize("damage", ["unlink", "cut"])
def test_matches_that_are_gone_are_made_again(slight, shapes, tmp_path, damage):
    first = run_sweep(slight, shapes, wanted(20), tmp_path).frame
    path = tmp_path / "levels" / "layer_0.5" / "matched.npz"
    path.unlink() if damage == "unlink" else path.write_bytes(path.read_bytes()[:50])
    said: list[str] = []
    again = run_sweep(slight, shapes, wanted(20), tmp_path, say=said.append).frame
    assert said == ["2 of 2 levels are already finished"]
    columns = ["AP_change_low", "AP_change_high", "AP_share_above"]
    assert again[columns].equals(first[columns])


def test_a_sweep_without_intervals_can_be_given_them(slight, shapes, tmp_path):
    frame = run_sweep(slight, shapes, wanted(0), tmp_path).frame
    assert not [name for name in frame if name.startswith("AP_change")]
    assert not list(tmp_path.rglob("matched.npz"))
    assert "AP_change_low" in run_sweep(slight, shapes, wanted(20), tmp_path).frame
    assert len(list(tmp_path.rglob("matched.npz"))) == 2


@pytest.mark.parametrize("count", [-1, 1.5, "many"])
def test_resamples_out_of_range(count):
    with pytest.raises(InputError, match="`bootstrap` is"):
        wanted(count)
