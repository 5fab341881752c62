"""--head: which branch of a YOLO26's head the commands count, and what they say of the other."""

import json

import pandas as pd
import pytest

from sparsity import ValidationSettings, keep_head, load, save, sensitivity
from sparsity.commands import sensitivity as sensitivity_command
from sparsity.commands import val
from sparsity.yolo.heads import held_heads

ONE2MANY, ONE2ONE = "one2many", "one2one"


@pytest.fixture
def weights(tiny_yolo26, tmp_path):
    save(tiny_yolo26, tmp_path / "n.safetensors")
    return tmp_path / "n.safetensors"


@pytest.fixture
def run(run_script, weights, shapes, tmp_path):
    def call(*flags, command=val, weights=weights):
        given = ("--weights", weights, "--data", shapes, "--imgsz", 64, "--conf-thres", 0.3)
        place = ("--device", "cpu", "--project", tmp_path / "r", "--name", "run")
        return run_script(command, *given, *place, *flags)

    return call


@pytest.mark.parametrize(
    ("flags", "head", "other"),
    [
        pytest.param((), ONE2MANY, ONE2ONE, id="the default"),
        pytest.param(("--head", ONE2ONE), ONE2ONE, ONE2MANY, id="the other one"),
    ],
)
def test_one_head_is_counted_and_the_other_dropped(run, tmp_path, flags, head, other):
    code, out, err = run(*flags, "--sparsity", 0.5)
    assert code == 0, err
    assert f"Head: {head}; {other} is dropped" in out
    assert f"Counting as YOLO26 does (docs/validation.md): batch size 16, head {head}, " in out
    metrics = json.loads((tmp_path / "r" / "run" / "metrics.json").read_text())
    assert (metrics["head"], metrics["conv_layers"]) == (head, 102)
    layers = (tmp_path / "r" / "run" / "layers.csv").read_text()
    assert ("one2one" in layers) == (head == ONE2ONE)


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        pytest.param(("--head", ONE2ONE, "--max-det", 301), True, id="more than the head gives"),
        pytest.param(("--head", ONE2ONE, "--max-det", 300), False, id="as many"),
        pytest.param(("--max-det", 301), False, id="the other head sets no limit"),
    ],
)
def test_a_max_det_that_one2one_cannot_give_is_warned_of(run, flags, warned):
    code, out, err = run(*flags)
    assert code == 0, err
    line = "WARNING: --max-det is 301, but the head one2one gives at most 300 detections for an image"
    assert (line in out.splitlines()) == warned


def test_a_file_with_one_head_has_that_one_as_its_default(run, tiny_yolo26, tmp_path):
    save(keep_head(tiny_yolo26, ONE2ONE), tmp_path / "one.safetensors")
    assert held_heads(load(tmp_path / "one.safetensors")) == (ONE2ONE,)
    code, out, err = run(weights=tmp_path / "one.safetensors")
    assert code == 0, err
    assert "Head: one2one\n" in out
    code, _, err = run("--head", ONE2MANY, weights=tmp_path / "one.safetensors")
    assert code == 2
    assert "--head is 'one2many', but this network holds one2one only" in err


def test_a_head_of_another_family_is_refused(run, tiny_yolov8, tmp_path):
    save(tiny_yolov8, tmp_path / "v8.safetensors")
    code, _, err = run("--head", ONE2ONE, weights=tmp_path / "v8.safetensors")
    assert code == 2
    assert "--head is 'one2one', but this network has one head; only a YOLO26 has two" in err


def test_a_resumed_run_never_mixes_heads(run, tmp_path):
    few = ("--layers", "model.0.conv", "--amounts", "0.5", "--val-images", 2)
    code, _, err = run(*few, command=sensitivity_command)
    assert code == 0, err
    settings = json.loads((tmp_path / "r" / "run" / "sensitivity.json").read_text())["settings"]
    assert settings["head"] == ONE2MANY
    resume = ("--resume", tmp_path / "r" / "run")
    code, _, err = run(*few, *resume, command=sensitivity_command)
    assert code == 0, err
    frame = pd.read_csv(tmp_path / "r" / "run" / "sensitivity.csv")
    assert frame["head"].tolist() == [ONE2MANY]
    code, _, err = run(*few, *resume, "--head", ONE2ONE, command=sensitivity_command)
    assert code == 2
    assert "head was one2many, now is one2one" in err


def test_sensitivity_measures_the_branch_that_runs(tiny_yolo26, shapes):
    network = keep_head(tiny_yolo26, ONE2ONE)
    layers = ["model.23.one2one_cv2.0.2"]
    settings = ValidationSettings(imgsz=64, conf_thres=0.3)
    rows = sensitivity(network, shapes, [0.9], layers=layers, val_images=2, settings=settings)
    assert rows.output_error.item() > 0
