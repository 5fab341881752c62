"""--criterion, --calib, --keep, --pattern as users of val_sparse.py and sweep.py give them."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from sparsity.commands import sweep
from sparsity.commands import val as val_sparse
from sparsity.demo import data as demo

CALIBRATED = ("--criterion", "obs", "--scope", "layer")


@pytest.fixture
def network(slight):
    """The scripts' network."""
    return slight


@pytest.fixture
def run(tmp_path, run_script, stand_in):
    """Run a script in this process on the slight network; gives exit code, stdout, stderr."""
    project = ("--project", tmp_path / "results", "--imgsz", 64, "--device", "cpu")

    def call(script, *flags: object) -> tuple[int, str, str]:
        weights = () if "--demo" in flags else ("--weights", stand_in)
        return run_script(script, *flags, *weights, *project)

    return call


def images(shapes: Path) -> Path:
    return shapes.parent / "images"


def row(tmp_path: Path) -> dict[str, object]:
    return json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())


def test_obs_on_one_checkpoint(run, shapes, tmp_path):
    flags = ("--sparsity", 0.5, "--criterion", "obs", "--calib", images(shapes), "--calib-images", 3)
    code, out, err = run(val_sparse, "--data", shapes, *flags)
    assert code == 0, err
    assert "Calibration: 3 images of" in out
    assert "Pruning (obs, 0.5)... " in out
    metrics = row(tmp_path)
    assert (metrics["criterion"], metrics["scope"], metrics["pattern"]) == ("obs", "measured", "unstructured")
    assert metrics["sparsity_conv"] == pytest.approx(0.5, abs=0.01)


def test_layers_that_are_kept_stay_dense(run, shapes, tmp_path):
    flags = ("--sparsity", 0.5, "--criterion", "lamp", "--keep", "model.3.*", "--keep", "model.0.conv")
    assert run(val_sparse, "--data", shapes, *flags)[0] == 0
    layers = pd.read_csv(tmp_path / "results" / "exp" / "layers.csv").set_index("name")
    kept = layers.index.str.startswith("model.3.") | (layers.index == "model.0.conv")
    assert layers.sparsity[kept].eq(0).all()
    assert layers.zeros.sum() == round(0.5 * layers.weights.sum())
    assert row(tmp_path)["keep"] == "model.3.* model.0.conv"


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_a_pattern(run, shapes, tmp_path, criterion):
    flags = ("--criterion", criterion, "--scope", "layer", "--pattern", "2:4", "--calib", images(shapes))
    assert run(val_sparse, "--data", shapes, "--sparsity", 0.5, *flags)[0] == 0
    assert row(tmp_path)["pattern"] == "2:4"


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_blocks_by_multiply_adds(run, shapes, tmp_path, criterion):
    flags = ("--criterion", criterion, "--scope", "lamp", "--pattern", "pair", "--calib", images(shapes))
    assert run(val_sparse, "--data", shapes, "--sparsity", 0.5, "--budget", "flops", *flags)[0] == 0
    assert (row(tmp_path)["pattern"], row(tmp_path)["budget"]) == ("pair", "flops")
    assert row(tmp_path)["macs_left"] == pytest.approx(0.5, abs=0.01)


def test_a_sweep_over_criteria(run, shapes, tmp_path):
    flags = ("--criterion", "l1,lamp,obs", "--calib", images(shapes), "--batch-sizes", "none")
    code, out, err = run(sweep, "0.3,0.6", "--data", shapes, *flags)
    assert code == 0, err
    assert "holds 6; all are used" in out
    folder = tmp_path / "results" / "sweep"
    frame = pd.read_csv(folder / "sweep.csv")
    assert frame.method.tolist() == ["l1"] * 3 + ["lamp"] * 3 + ["obs"] * 3
    assert {"AP_change_low", "AP_change_high", "AP_share_above", "prune_seconds"} <= set(frame)
    assert {path.name for path in (folder / "levels").iterdir()} == {
        *("dense", "layer_0.3", "layer_0.6", "lamp_0.3", "lamp_0.6"),
        *("obs_measured_0.3", "obs_measured_0.6"),
    }
    differences = json.loads((folder / "sweep.json").read_text())["differences"]
    assert [(one["amount"], one["method"], one["other"]) for one in differences] == [
        (amount, *pair) for amount in (0.3, 0.6) for pair in (("l1", "lamp"), ("l1", "obs"), ("lamp", "obs"))
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(("--calib-seed", 1), "calibration_seed was 0, now is 1", id="seed"),
        pytest.param(("--calib-images", 2), "calibration was 3 images", id="count"),
        pytest.param(("--keep", "model.0.conv"), "keep was , now is model.0.conv", id="keep"),
        pytest.param(("--pattern", "2:4"), "pattern was unstructured, now is 2:4", id="pattern"),
    ],
)
def test_resume_refuses_what_would_prune_otherwise(run, shapes, tmp_path, change, words):
    flags = ("0.5", "--data", shapes, *CALIBRATED, "--calib", images(shapes), "--calib-images", 3)
    flags += ("--batch-sizes", "none", "--bootstrap", 0)
    assert run(sweep, *flags)[0] == 0
    again = ("--resume", tmp_path / "results" / "sweep")
    assert run(sweep, *flags, *again)[0] == 0
    code, _, err = run(sweep, *flags, *again, *change)
    assert code == 2
    assert words in err


def test_images_that_are_no_use_are_counted_and_left_out(run, shapes, tmp_path):
    shutil.copytree(images(shapes), tmp_path / "calib")
    (tmp_path / "calib" / "3.png").write_bytes(b"no image")
    flags = ("--sparsity", 0.5, *CALIBRATED, "--calib", tmp_path / "calib")
    code, out, err = run(val_sparse, "--data", shapes, *flags)
    assert code == 0, err
    assert "1 calibration images are skipped, such as" in out
    assert "3.png" in out
    assert "64 calibration images are asked for, but" in out
    assert "holds 5; all are used" in out


def test_images_that_nothing_learns_from_are_not_read(run, shapes, tmp_path):
    assert run(val_sparse, "--data", shapes, "--sparsity", 0.5, "--calib", tmp_path / "none")[0] == 0


def test_the_demo_brings_its_own_images(run, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "COUNTS", {"train": 3, "val": 2})
    flags = (*CALIBRATED, "--keep", "model.[2-9]*", "--keep", "model.1[0-9]*", "--calib-images", 2)
    code, out, err = run(val_sparse, "--demo", "--sparsity", 0.001, *flags)
    assert code == 0, err
    assert "Calibration: 2 images of demo" in out


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def broken(folder: Path) -> Path:
    empty(folder)
    (folder / "a.png").write_bytes(b"no image")
    return folder


BAD = {
    "no calib": (lambda t: CALIBRATED, "--criterion obs learns from images, but --calib is missing"),
    "measured": (
        lambda t: ["--scope", "measured"],
        "--scope measured learns from images, but --calib is missing",
    ),
    "calib missing": (lambda t: [*CALIBRATED, "--calib", t / "none"], "none: no such folder"),
    "calib empty": (lambda t: [*CALIBRATED, "--calib", empty(t / "e")], "e: no images"),
    "calib broken": (lambda t: [*CALIBRATED, "--calib", broken(t / "b")], "b: no usable image"),
    "no images": (lambda t: [*CALIBRATED, "--calib", t, "--calib-images", "0"], "--calib-images is 0"),
    "seed": (lambda t: [*CALIBRATED, "--calib", t, "--calib-seed", "-1"], "--calib-seed is -1"),
    "pattern": (lambda t: ["--pattern", "3:2"], "--pattern is '3:2'"),
    "pattern word": (lambda t: ["--pattern", "two"], "--pattern is 'two'"),
    "pattern of three": (
        lambda t: ["--pattern", "triple"],
        "--pattern is 'triple'; unstructured, pair, quad",
    ),
    "pattern too dense": (lambda t: ["--pattern", "1:4"], "less than that of --pattern 1:4"),
    "keep nothing": (lambda t: ["--keep", "model.99.*"], "--keep 'model.99.*' matches no Conv2d"),
    "keep all": (lambda t: ["--keep", "*", "--scope", "global"], "0.0 at most is expected"),
}


@pytest.mark.parametrize("script", [val_sparse, sweep], ids=lambda script: script.__name__)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, shapes, tmp_path, case, script):
    flags, words = BAD[case]
    amount = ("0.5",) if script is sweep else ("--sparsity", "0.5")
    code, _, err = run(script, *amount, "--data", shapes, *flags(tmp_path))
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
