"""The search finds the level that a full sweep finds, tries few, resumes, and says what it can't find."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from sparsity import (
    Finetuning,
    InputError,
    Material,
    Method,
    Pruner,
    TrainingSettings,
    ValidationSettings,
    find_level,
    load,
    save,
    sweep,
)
from sparsity.sweeping import job
from sparsity.sweeping.search import SearchSettings, run_search
from sparsity.sweeping.settings import SweepSettings
from sparsity.timing.latency import Rounds

VALIDATION = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=0)
QUICK = {"settings": VALIDATION, "batch_sizes": (), "bootstrap": 0}


@pytest.fixture
def falling(monkeypatch) -> None:
    """Let AP fall with the amount, faster by global magnitudes."""
    real = job.make_metrics

    def make_metrics(origin, *given):
        steep = 2.0 if origin.scope == "global" else 1.0
        return replace(real(origin, *given), AP=0.8 * (1 - steep * origin.amount**2 / 2))

    monkeypatch.setattr(job, "make_metrics", make_metrics)


def tried(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("levels/*/metrics.json")}


@pytest.mark.usefixtures("falling")
def test_the_level_is_that_of_a_full_sweep(slight, shapes, tmp_path):
    methods = [Method("l1"), Method("l1", "global")]
    frame = sweep(slight, shapes, [k / 10 for k in range(10)], methods=methods, **QUICK)
    kept = frame[0.85 * frame.AP[0] <= frame.AP].groupby("method").amount.max()
    found = find_level(slight, shapes, 0.85, methods=methods, resolution=0.1, folder=tmp_path / "s", **QUICK)
    assert {name: one.amount for name, one in found.found.items()} == kept.to_dict()
    assert kept.to_dict() == {"l1": 0.5, "l1 global": 0.3}
    names = {
        "dense",
        *(f"layer_{x}" for x in (0.5, 0.7, 0.6)),
        *(f"global_{x}" for x in (0.5, 0.2, 0.3, 0.4)),
    }
    assert tried(tmp_path / "s") == names, "few levels are tried"
    assert set(found.sweep.frame.amount) == {0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    one = found.found["l1"]
    assert pytest.approx(0.7) == one.AP
    assert one.dense_AP == 0.8
    expected = Pruner(slight).prune("l1", 0.5).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in one.network.state_dict().items())


@pytest.mark.usefixtures("falling")
def test_a_stopped_search_runs_nothing_again(slight, shapes, tmp_path, monkeypatch):
    wanted = SweepSettings((), batch_sizes=(1,), validation=VALIDATION, rounds=Rounds(0, 2, 2), bootstrap=9)
    asked = SearchSettings(0.85, 0.1, search_images=4)

    def stop(_sweep):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(slight, shapes, asked, wanted, tmp_path, then=stop)
    assert tried(tmp_path / "search") == {"dense", "layer_0.5", "layer_0.7", "layer_0.6"}
    assert tried(tmp_path) == {"dense", "layer_0.5", "layer_0.6"}, "on all images, from the level found"
    with monkeypatch.context() as patch:
        patch.setattr(job, "run_pass", None)
        patch.setattr(job, "time_levels", None)
        done = run_search(slight, shapes, asked, wanted, tmp_path)
    assert done.found["l1"].amount == 0.5
    assert done.found["l1"].change_low <= done.found["l1"].change_high
    assert done.sweep.frame.amount.tolist() == [0.0, 0.5, 0.6]
    assert (done.sweep.frame.latency_ms_b1 > 0).all()
    assert set(done.tried.frame.images) == {4}
    with pytest.raises(InputError, match=r"keep_ap was 0.85, now is 0.8"):
        run_search(slight, shapes, replace(asked, keep_ap=0.8), wanted, tmp_path)


@pytest.mark.usefixtures("falling")
def test_the_network_is_saved_and_layers_that_stay_dense_limit_the_search(slight, shapes, tmp_path):
    pruner = Pruner(slight, keep=["model.2.*"])
    method = Method("l1", "global")
    found = find_level(
        slight,
        shapes,
        0.1,
        methods=[method],
        pruner=pruner,
        resolution=0.25,
        save=tmp_path / "found.pt",
        **QUICK,
    )
    one = found.found["l1 global"]
    assert one.amount == 0.5, "more cannot be reached"
    saved, kept = load(tmp_path / "found.pt").state_dict(), one.network.state_dict()
    assert all(torch.equal(saved[name] == 0, tensor == 0) for name, tensor in kept.items())


@pytest.mark.usefixtures("falling")
def test_a_share_that_no_level_keeps_is_one_line_after_the_report(slight, shapes, tmp_path):
    wanted = SweepSettings((), batch_sizes=(), validation=VALIDATION, bootstrap=0)
    reported = []
    with pytest.raises(InputError, match=r"the smallest sparsity, 0.4, keeps 92.0% by l1 of the dense AP"):
        run_search(slight, shapes, SearchSettings(0.99, 0.4), wanted, tmp_path, then=reported.append)
    assert reported[0].lost == {"l1": pytest.approx(0.92)}
    assert reported[0].sweep.frame.amount.tolist() == [0.0, 0.4]


def test_the_search_looks_at_ap_after_training(slight_unfused, shapes, tmp_path, monkeypatch):
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    save(slight_unfused, tmp_path / "w.pt")
    kept = job.Store.finish

    def lose(self, level, done):
        ap = 0.8 if level.stage == "fine-tuned" or not level.amount else 0.1
        kept(self, level, replace(done, metrics=replace(done.metrics, AP=ap)))

    monkeypatch.setattr(job.Store, "finish", lose)
    how = TrainingSettings(epochs=1, batch_size=2, nominal_batch=2, imgsz=64, workers=0)
    trained = Finetuning(Material(tmp_path / "w.pt", data=shapes), how, device=VALIDATION)
    found = find_level(load(tmp_path / "w.pt"), shapes, 0.9, resolution=0.5, finetune=trained, **QUICK)
    assert found.found["l1"].amount == 0.5
    assert found.sweep.frame.stage.tolist() == ["one-shot", "one-shot", "fine-tuned", "fine-tuned"]
    assert found.sweep.frame.AP.tolist() == [0.8, 0.1, 0.8, 0.8]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0,), "`keep_ap` is 0.0; above 0 and at most 1 is expected"),
        ((1.1,), "`keep_ap` is 1.1"),
        ((float("nan"),), "`keep_ap` is nan"),
        ((0.9, 0.0), "`resolution` is 0.0; above 0 and at most 0.5"),
        ((0.9, 0.1, -1), "`search_images` is -1"),
    ],
)
def test_searches_that_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        SearchSettings(*values)
