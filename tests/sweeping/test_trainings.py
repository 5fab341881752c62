"""Levels of a sweep are trained after pruning: from their own network, resumed to the epoch, then cleared."""

import copy
import json
import random
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity import InputError, Method, Pruner, TrainingSettings, ValidationSettings, load, save, validate
from sparsity.sweeping.defaults import BELOW
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import Store
from sparsity.sweeping.sweep import run_sweep
from sparsity.sweeping.trainings import open_trainings
from sparsity.timing.latency import Rounds
from sparsity.training.lessons import lesson_of
from sparsity.training.masks import nonzero_masks
from sparsity.training.preparation import Material
from sparsity.training.run import Run
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network, fuse

VALIDATION = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=0)
TRAINING = TrainingSettings(epochs=2, batch_size=2, nominal_batch=2, imgsz=64, workers=0, lr0=0.001)
DONE = {"last.pt", "epochs.csv"}


def asked(weights: Path, data: Path, *amounts: float, training=TRAINING, **changes) -> SweepSettings:
    how = {name: changes.pop(name) for name in ("prune_from",) if name in changes}
    material = Material(weights, data=data, teacher=changes.pop("teacher", ""))
    values = {"batch_sizes": (), "validation": VALIDATION, "rounds": Rounds(0, 2, 2), "bootstrap": 0}
    finetune = Finetuning(material, training, device=VALIDATION, **how)
    return SweepSettings(amounts, finetune=finetune, **values | changes)


def run(weights: Path, wanted: SweepSettings, folder: Path, **more) -> pd.DataFrame:
    return run_sweep(load(weights), weights.parent / "shapes" / "shapes.yaml", wanted, folder, **more).frame


def zeros(network: Network) -> dict[str, torch.Tensor]:
    return {name: ~keep for name, keep in nonzero_masks(network).keep.items()}


def same_zeros(one: Network, other: Network) -> bool:
    expected, found = zeros(one), zeros(other)
    return all(torch.equal(expected[name], found[name]) for name in expected)


def test_each_level_has_a_row_before_and_after_training(weights, data, tmp_path):
    wanted = asked(weights, data, 0.3, 0.6, batch_sizes=(1,), bootstrap=20, save="all")
    frame = run(weights, wanted, tmp_path / "s")
    assert frame.stage.tolist() == ["one-shot"] * 3 + ["fine-tuned"] * 3
    assert frame.amount.tolist() == [0.0, 0.3, 0.6] * 2
    plain = run(weights, replace(wanted, finetune=None), tmp_path / "plain")
    assert "stage" not in plain
    assert list(frame.columns) == [*plain.columns, "stage", "train_seconds"]
    one_shot, tuned = (rows for _, rows in frame.groupby("stage", sort=False))
    assert one_shot.AP.tolist() == plain.AP.tolist(), "as without training"
    assert (tuned.AP.to_numpy()[1:] != one_shot.AP.to_numpy()[1:]).all(), "trained"
    assert tuned.conv_zeros.tolist() == one_shot.conv_zeros.tolist()
    assert tuned.latency_ms_b1.tolist() == one_shot.latency_ms_b1.tolist(), "measured once"
    assert (tuned.train_seconds > 0).tolist() == [False, True, True]
    for amount in (0.3, 0.6):
        folder = tmp_path / "s" / "levels" / f"layer_{amount}_finetuned"
        assert {path.name for path in (folder / "train").iterdir()} == DONE
        network = load(folder / "train" / "last.pt")
        row = tuned[tuned.amount == amount].iloc[0]
        assert validate(network, data, VALIDATION).metrics.AP == row.AP
        assert same_zeros(network, load(folder / "network.safetensors"))


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_training_starts_from_the_one_shot_network(weights, data, tmp_path, monkeypatch, criterion):
    monkeypatch.setattr("sparsity.pruning.curves.SUPPORT_STEPS", 2)
    monkeypatch.setattr("sparsity.pruning.curves.REFIT_STEPS", 1)
    seen = {}

    def spy(run, **_more):
        seen["at first"] = fuse(copy.deepcopy(run.trainer.average.network))
        seen["frozen"] = run.settings.freeze_bn
        real(run)

    real = Run.run
    monkeypatch.setattr(Run, "run", spy)
    network = load(weights)
    pruner = Pruner(network, calibration=[torch.rand(2, 3, 64, 64)])
    method = Method(criterion, "layer")
    wanted = asked(weights, data, 0.5, methods=(method,), training=replace(TRAINING, epochs=1))
    run_sweep(network, data, wanted, tmp_path / "s", pruner=pruner)
    expected = pruner.prune(method, 0.5)
    assert same_zeros(expected, seen["at first"])
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(seen["at first"].state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert seen["frozen"] == (criterion == "obs"), "its weights depend on the statistics"


def test_a_level_is_pruned_from_the_fine_tuned_one_below(weights, data, tmp_path):
    wanted = asked(weights, data, 0.3, 0.6, prune_from=BELOW, save="all", methods=(Method("l1", "erk"),))
    frame = run(weights, wanted, tmp_path / "s")
    levels = tmp_path / "s" / "levels"
    below = load(levels / "erk_0.3_finetuned" / "train" / "last.pt")
    start = load(levels / "erk_0.6" / "network.safetensors")
    for name, weight in below.state_dict().items():
        kept = start.state_dict()[name] != 0
        torch.testing.assert_close(start.state_dict()[name][kept], weight[kept], rtol=2e-3, atol=1e-4)
    found, last = zeros(load(levels / "erk_0.6_finetuned" / "train" / "last.pt")), zeros(below)
    assert all((last[name] & ~found[name]).sum() == 0 for name in last), "its zeros stay"
    assert sum(int(x.sum()) for x in found.values()) > sum(int(x.sum()) for x in last.values())
    again = run(weights, wanted, tmp_path / "s")
    pd.testing.assert_frame_equal(frame, again)


def test_other_trainings_are_refused(weights, data, tmp_path):
    few = replace(TRAINING, epochs=1)
    run(weights, asked(weights, data, 0.5, training=few), tmp_path / "s")
    for change, words in (
        ({"training": TRAINING}, "finetune_epochs was 1, now is 2"),
        ({"training": few, "prune_from": BELOW}, "finetune_prune_from was dense, now is below"),
        ({"training": few, "teacher": weights}, "finetune_teacher was , now is"),
    ):
        with pytest.raises(InputError, match=words):
            run(weights, asked(weights, data, 0.5, **change), tmp_path / "s")
    plain = replace(asked(weights, data, 0.5), finetune=None)
    with pytest.raises(InputError, match="finetune_epochs was 1, now is None"):
        run_sweep(load(weights), data, plain, tmp_path / "s")


def test_what_cannot_be_trained_is_said_before_anything_is_written(weights, data, tmp_path):
    save(load(weights), tmp_path / "fused.pt")
    (tmp_path / "val.yaml").write_text(
        f"val: {data.parent / 'images'}\nnames: [cat, dog, bird]\n", encoding="utf-8"
    )
    for file, images, words in (
        (tmp_path / "fused.pt", data, "its batch norms are already folded in"),
        (weights, tmp_path / "val.yaml", "no key 'train'"),
    ):
        with pytest.raises(InputError, match=words):
            run(file, asked(file, images, 0.5), tmp_path / "s")
    other, wanted = Pruner(load(weights)).prune("l1", 0.1), asked(weights, data, 0.5)
    with pytest.raises(InputError, match="is not the network that is swept"):
        run_sweep(other, data, wanted, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prune_from": "above"}, "`prune_from` is 'above'; dense or below is expected"),
        ({"training": TrainingSettings(amount=0.5)}, "`amount` is 0.5; 0 is expected"),
        ({"training": TrainingSettings(sparse_train=0.1)}, "`sparse_train` is 0.1"),
    ],
)
def test_trainings_that_do_not_go_with_a_sweep(change, words):
    with pytest.raises(InputError, match=words):
        asked(Path("w.pt"), Path("d.yaml"), 0.5, **change)


def test_of_two_heads_the_swept_one_is_trained(few_layers, data, tmp_path):
    network = few_layers(family="yolo26")
    lesson_of(network).initialise(network.head, 64)
    save(network, tmp_path / "w.safetensors")
    swept = keep_head(load(tmp_path / "w.safetensors"), "one2one")
    how = asked(tmp_path / "w.safetensors", data, 0.5).finetune
    made = open_trainings(
        how, Pruner(swept), Store(tmp_path / "s"), (), "torch", progress=False, say=lambda _line: None
    )
    assert held_heads(made.start.network) == ("one2one",)


class StoppedError(Exception):
    """Stands for the end of the process."""


def test_a_stopped_training_goes_on_at_its_epoch(weights, data, tmp_path, monkeypatch):
    wanted = asked(weights, data, 0.5)
    whole = run(weights, wanted, tmp_path / "whole")
    said, real = [], Run._run_epoch

    def failing(made, epoch, progress):
        if epoch == 1:
            raise StoppedError
        return real(made, epoch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_run_epoch", failing)
        with pytest.raises(StoppedError):
            run(weights, wanted, tmp_path / "s")
    train = tmp_path / "s" / "levels" / "layer_0.5_finetuned" / "train"
    assert (train / "state.pt").exists()
    again = run(weights, wanted, tmp_path / "s", say=said.append)
    assert "2 of 2 levels are already finished" in said, "what was measured before the training is read"
    assert "Training (l1, 0.5) goes on" in said
    assert [line.split(":")[0] for line in said if line.startswith("epoch")] == ["epoch 2/2"]
    assert {path.name for path in train.iterdir()} == DONE
    assert again.AP.tolist() == pytest.approx(whole.AP.tolist(), abs=1e-6)
    monkeypatch.setattr(Run, "run", None)
    pd.testing.assert_frame_equal(run(weights, wanted, tmp_path / "s"), again)


def sweep_into(folder: Path, weights: Path, data: Path) -> None:
    """Sweep in a process of its own, which is killed."""
    training = replace(TRAINING, epochs=3)
    frame = run(weights, asked(weights, data, 0.3, 0.6, bootstrap=20, training=training), folder)
    frame.to_csv(folder / "sweep.csv", index=False)


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_no_epoch(processes, weights, data, tmp_path):
    def start(folder: str) -> BaseProcess:
        process = processes.Process(target=sweep_into, args=(tmp_path / folder, weights, data))
        process.start()
        return process

    began = time.perf_counter()
    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    seconds, moments, folder = time.perf_counter() - began, random.Random(), tmp_path / "killed"
    for killed in range(5):
        process = start("killed")
        process.join(moments.uniform(0.4, 0.9) * seconds / (1 + killed / 2))
        process.kill()
        process.join()
        for path in folder.rglob("*.json"):
            if not path.name.startswith("."):
                json.loads(path.read_text())
    last = start("killed")
    last.join()
    assert last.exitcode == 0
    names = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    assert names == {path.relative_to(folder) for path in folder.rglob("*")}
    one, other = (pd.read_csv(tmp_path / name / "sweep.csv") for name in ("whole", "killed"))
    clocked = [name for name in one if "_ms" in name or name.endswith("seconds") or name == "started"]
    pd.testing.assert_frame_equal(one.drop(columns=clocked), other.drop(columns=clocked), rtol=1e-4)
    for name in names:
        if name.name == "last.pt":
            ours, theirs = (load(place / name, fused=False) for place in (tmp_path / "whole", folder))
            for key, tensor in ours.state_dict().items():
                torch.testing.assert_close(theirs.state_dict()[key], tensor, rtol=1e-3, atol=1e-4)
