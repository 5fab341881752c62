"""What a training logs to a tracker: settings once, a row an epoch, an end in any case. None is contacted."""

import json
import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from tensorboardX.proto.event_pb2 import Event

from sparsity import InputError, TrainingSettings, ValidationSettings, finetune, save
from sparsity.commands import compare
from sparsity.commands import finetune as command
from sparsity.training.run import Run
from sparsity.training.tracking import check_tracker, tracking

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
SETTINGS = TrainingSettings(epochs=1, batch_size=3, nominal_batch=3, imgsz=64, workers=0, lr0=0.001)


@pytest.fixture
def weights(few_layers, tmp_path) -> Path:
    save(few_layers(), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


@pytest.fixture
def calls(monkeypatch) -> list[tuple]:
    """Put a tracker that only collects its calls in the place of wandb, mlflow and trackio."""
    collected: list[tuple] = []

    class Fake(GeneralTracker):
        requires_logging_directory = False

        def __init__(self, project, /, **arguments):
            super().__init__()
            collected.append(("init", project, arguments))

        @property
        def tracker(self):
            return SimpleNamespace(info=SimpleNamespace(run_id="the server's"))

        def store_init_configuration(self, values):
            collected.append(("config", values))

        def log(self, values, step=None, **_more):
            collected.append(("log", step, values))

        def finish(self):
            collected.append(("finish",))

    for kind in (LoggerType.WANDB, LoggerType.MLFLOW, LoggerType.TRACKIO):
        name = str(kind)
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, type(name, (Fake,), {"name": name}))
    monkeypatch.setattr("accelerate.tracking._available_trackers", list(LoggerType))
    return collected


def log_two(name: str, folder: Path, *, resuming: bool) -> list[str]:
    """Log two epochs; return the lines that are said."""
    said: list[str] = []
    accelerator = Accelerator(cpu=True, log_with=name, project_dir=folder)
    with tracking(accelerator, folder, {"lr0": 0.1, "none": None}, said.append, resuming=resuming) as log:
        log(1, {"box": 0.5})
        log(2, {"box": 0.25})
    return said


def test_tensorboard_has_every_row(weights, data, tmp_path):
    folder = tmp_path / "run"
    about = {"folder": folder, "validation": VALIDATION, "log_with": "tensorboard"}
    finetune(weights, data, SETTINGS, **about)
    found = defaultdict(dict)
    for file in folder.glob("sparsity/events*"):
        content = file.read_bytes()
        while content:
            size = struct.unpack("<Q", content[:8])[0]
            event, content = Event.FromString(content[12 : 12 + size]), content[16 + size :]
            for value in event.summary.value:
                found[value.tag][event.step] = value.simple_value
    row = pd.read_csv(folder / "epochs.csv").iloc[0]
    for name in ("box", "classes", "lr", "sparsity_conv", "AP", "AP50"):
        assert found[name] == {1: pytest.approx(row[name], rel=1e-5)}
    assert "small_scales" not in found, "not measured without sparse training"
    (config,) = folder.glob("sparsity/*/hparams.yml")
    assert yaml.safe_load(config.read_text())["nominal_batch"] == 3


@pytest.mark.parametrize(
    ("name", "again"),
    [
        pytest.param("wandb", "id", id="wandb"),
        pytest.param("trackio", "name", id="trackio"),
        pytest.param("mlflow", "run_id", id="mlflow"),
    ],
)
def test_a_resumed_training_goes_on_in_the_same_run(calls, tmp_path, name, again):
    assert log_two(name, tmp_path, resuming=False) == []
    init, *others = calls
    assert init[:2] == ("init", "sparsity")
    assert others == [
        ("config", {"lr0": 0.1}),
        ("log", 1, {"box": 0.5}),
        ("log", 2, {"box": 0.25}),
        ("finish",),
    ]
    run = json.loads((tmp_path / "tracker.json").read_text())["run"]
    calls.clear()
    log_two(name, tmp_path, resuming=True)
    assert calls[0][2][again].endswith(run)
    if name != "mlflow":
        assert calls[0] == init
    assert "config" not in {call[0] for call in calls}, "settings are logged once"
    calls.clear()
    log_two(name, tmp_path, resuming=False)
    assert calls[0][2].get(again) != init[2].get(again) or name == "mlflow"
    assert calls[1][0] == "config", "a new run"


def test_a_run_logs_settings_and_goes_on_with_its_steps(calls, weights, data, tmp_path, monkeypatch):
    two, about = replace(SETTINGS, epochs=2), {"folder": tmp_path / "run", "validation": VALIDATION}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_out_of_patience", lambda run: len(run.rows) == 1)
        finetune(weights, data, two, **about, log_with="wandb")
    assert [call[0] for call in calls] == ["init", "config", "log", "finish"]
    assert (calls[1][1]["epochs"], calls[1][1]["optimizer"]) == (2, "SGD")
    finetune(weights, data, two, **about, log_with="wandb", resume=True)
    assert [call[1] for call in calls if call[0] == "log"] == [1, 2]


@pytest.mark.parametrize(
    "error", [InputError("the loss is nan"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
def test_a_tracker_is_ended_whatever_ends_the_training(calls, weights, data, tmp_path, monkeypatch, error):
    def run_epoch(*_given, **_more):
        raise error

    monkeypatch.setattr("sparsity.training.trainer.Trainer.run_epoch", run_epoch)
    about = {"folder": tmp_path / "run", "validation": VALIDATION, "log_with": "wandb"}
    with pytest.raises(type(error)):
        finetune(weights, data, SETTINGS, **about)
    assert calls[-1] == ("finish",)


def test_a_tracker_that_fails_costs_a_line_and_not_the_training(calls, tmp_path, monkeypatch):
    def fail(*_given, **_more):
        raise ConnectionError("no\nserver")

    monkeypatch.setattr(LOGGER_TYPE_TO_CLASS["wandb"], "log", fail)
    assert log_two("wandb", tmp_path, resuming=False) == [
        f"WARNING: wandb has not logged epoch {epoch}: no server" for epoch in (1, 2)
    ]
    monkeypatch.setattr(LOGGER_TYPE_TO_CLASS["wandb"], "start", fail)
    with pytest.raises(InputError, match=r"^`log_with` wandb: it does not start \(no server\)$"):
        log_two("wandb", tmp_path, resuming=False)


def test_only_the_main_process_logs(calls, tmp_path):
    other = SimpleNamespace(is_main_process=False, log_with=["wandb"], trackers=[])
    with tracking(other, tmp_path, {}, print, resuming=False) as log:
        log(1, {"box": 0.5})
    assert calls == []
    assert list(tmp_path.iterdir()) == []


def test_without_a_tracker_nothing_is_logged(calls, tmp_path):
    (tmp_path / "tracker.json").write_text("of an earlier run")
    with tracking(Accelerator(cpu=True), tmp_path, {}, print, resuming=False) as log:
        log(1, {"box": 0.5})
    assert calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_whose_package_is_missing_is_refused_before_anything_is_read(
    run_script, tmp_path, monkeypatch
):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    flags = ("--weights", "no.pt", "--data", "no.yaml", "--project", tmp_path / "r", "--log-with", "mlflow")
    code, _, err = run_script(command, *flags)
    assert (code, err) == (
        2,
        "sparsity finetune: --log-with mlflow needs the package mlflow: pip install mlflow\n",
    )
    code, _, err = run_script(compare, "--techniques", "distill", "--training=--log-with trackio")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--log-with trackio needs the package trackio: pip install trackio" in err
    with pytest.raises(
        InputError, match="`log_with` is 'comet'; tensorboard, wandb, mlflow or trackio is expected"
    ):
        check_tracker("comet")
    assert not (tmp_path / "r").exists()
