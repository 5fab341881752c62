"""finetune.py as its user runs it: what it says, writes and refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
import yaml

from sparsity import count_sparsity, load
from sparsity.commands import finetune
from sparsity.formats.saving import save
from sparsity.training.trainer import DivergedError, Trainer
from sparsity.yolo.network import Network, build


@pytest.fixture
def data(shapes) -> Path:
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    return shapes


ANCHORS = torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]])


@pytest.fixture
def make_network(few_layers) -> Callable[..., Network]:
    """Makes a network with random weights; head: what its Detect has otherwise."""

    def make(names: tuple[str, ...] = ("cat", "dog", "bird"), anchors=ANCHORS, **head) -> Network:
        *body, last = few_layers(names).architecture
        module = replace(last.module, attributes=last.module.attributes | head)
        outputs = len(anchors) * (5 + len(names))
        maps = {
            number: replace(conv, attributes=conv.attributes | {"out_channels": outputs})
            for number, conv in module.children["m"].children.items()
        }
        module = replace(module, children={"m": replace(module.children["m"], children=maps)})
        torch.manual_seed(0)
        network = build((*body, replace(last, module=module)), names)
        network.head.anchors.copy_(anchors.expand(3, -1, 2))
        return network

    return make


@pytest.fixture
def weights(make_network, tmp_path) -> Path:
    save(make_network(), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


@pytest.fixture
def run(tmp_path, run_script):
    """Run the script in this process; gives exit code, stdout, stderr."""

    def call(*flags: object) -> tuple[int, str, str]:
        small = ["--imgsz", 64, "--batch-size", 2, "--nominal-batch", 2, "--workers", 0, "--lr0", 0.001]
        return run_script(finetune, *small, "--project", tmp_path / "results", "--device", "cpu", *flags)

    return call


def test_a_run_from_end_to_end_and_going_on(run, run_script, weights, data, tmp_path):
    flags = ("--weights", weights, "--data", data, "--sparsity", 0.5, "--teacher", weights, "--epochs", 2)
    flags = (*flags, "--criterion", "l1")
    code, out, err = run(*flags)
    assert code == 0, err
    folder = tmp_path / "results" / "train"
    names = {"last.pt", "best.pt", "state.pt", "training.json", "epochs.csv", "epochs.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert "epoch 2/2: box" in out
    assert "before training: AP 0." in out
    assert "WARNING: 6 optimiser steps in all (2 epochs, up to 2 images a step) are few" in out
    assert "give a smaller --nominal-batch or more --epochs" in out
    assert f"Results saved to {folder}" in out
    rows = pd.read_csv(folder / "epochs.csv")
    assert rows.epoch.tolist() == [1, 2]
    assert (rows.distillation > 0).all()
    assert rows.sparsity_conv.to_numpy() == pytest.approx(0.5, abs=0.001)
    counted = count_sparsity(load(folder / "best.pt"))
    assert counted.conv_zeros == pytest.approx(0.5 * counted.conv_weights, abs=counted.conv_layers)
    code, out, _ = run(*flags, "--resume", folder)
    assert code == 0
    assert "epoch 2/2" not in out, "a finished training does nothing"
    before = (folder / "epochs.csv").read_bytes()
    code, out, err = run_script(finetune, "--resume", folder / "last.pt")
    assert code == 0, err
    assert "Training into" in out
    assert "epoch 2/2" not in out
    assert (folder / "epochs.csv").read_bytes() == before


def test_labels_and_images_without_in_one_run(run, weights, data, tmp_path):
    flags = ("--weights", weights, "--data", data, "--images", data.parent / "images", "--teacher", weights)
    code, _, err = run(*flags, "--sparsity", 0.5, "--criterion", "l1", "--epochs", 1)
    assert code == 0, err
    row = pd.read_csv(tmp_path / "results" / "train" / "epochs.csv").iloc[0]
    assert min(row.box, row.objectness, row.distillation) > 0
    assert row.AP >= 0, "validated on val of --data"


def test_sparse_training_says_and_shows_what_could_be_cut(run, weights, data, tmp_path):
    flags = ("--weights", weights, "--data", data, "--sparse-train", 0.01, "--epochs", 2, "--tied")
    code, out, err = run(*flags)
    assert code == 0, err
    folder = tmp_path / "results" / "train"
    names = {
        "last.pt",
        "best.pt",
        "state.pt",
        "training.json",
        "epochs.csv",
        "epochs.png",
        "scales.csv",
        "scales.png",
    }
    assert {path.name for path in folder.iterdir()} == names
    assert len([line for line in out.splitlines() if "free channels could be cut now" in line]) == 2
    frame = pd.read_csv(folder / "scales.csv")
    assert sorted(set(frame.epoch)) == [0, 1, 2]
    assert frame.groupby("epoch").channels.sum().nunique() == 1
    height, width, _ = cv2.imread(str(folder / "scales.png")).shape
    assert min(height, width) > 300
    code, _, err = run(*flags[:-1], "--resume", folder)
    assert "tied was True, now is False" in err
    assert code == 2


TEACHERS = {
    "fewer classes": ({"names": ("cat", "dog")}, "its classes are 2, the student's 3"),
    "other classes": ({"names": ("cat", "cow", "bird")}, "its classes are cow, the student's dog"),
    "fewer anchors": ({"na": 2, "anchors": ANCHORS[:2]}, "its anchors per cell are 2, the student's 3"),
    "other anchors": ({"anchors": 2 * ANCHORS}, "its anchors are [32.0, 48.0, "),
}


@pytest.mark.parametrize("case", TEACHERS)
def test_a_teacher_that_does_not_match_gets_one_line_and_leaves_nothing(
    run, make_network, weights, data, tmp_path, case
):
    changes, words = TEACHERS[case]
    save(make_network(**changes), tmp_path / "teacher.pt")
    code, _, err = run("--weights", weights, "--data", data, "--teacher", tmp_path / "teacher.pt")
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_teacher_of_fewer_maps_gets_one_line(run, two_heads_unfused, weights, data, tmp_path):
    save(two_heads_unfused, tmp_path / "teacher.pt")
    code, _, err = run("--weights", weights, "--data", data, "--teacher", tmp_path / "teacher.pt")
    assert "its strides are (8, 16), the student's (8, 16, 32)" in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1


def test_a_teacher_whose_anchors_were_kept_in_half_precision_will_do(
    run, make_network, weights, data, tmp_path
):
    save(make_network(anchors=ANCHORS * 1.0004), tmp_path / "teacher.pt")
    code, _, err = run(
        "--weights", weights, "--data", data, "--teacher", tmp_path / "teacher.pt", "--epochs", 1
    )
    assert code == 0, err


FAILING = {
    "memory": (torch.cuda.OutOfMemoryError("CUDA out of memory"), "--batch-size is 2, but the memory of cpu"),
    "divergence": (DivergedError("the loss is nan"), "epoch 1: the loss is nan; nothing was saved"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_run_that_fails_in_its_first_epoch_leaves_nothing(run, weights, data, tmp_path, monkeypatch, case):
    error, words = FAILING[case]

    def backward(*_given):
        raise error

    monkeypatch.setattr(Trainer, "_backward", backward)
    code, _, err = run("--weights", weights, "--data", data)
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


BAD = {
    "nothing": ([], "--weights to train on a checkpoint"),
    "no data": (["--weights", "W"], "--data for labelled images"),
    "no labels and no teacher": (["--weights", "W", "--images", "D"], "give a --teacher"),
    "labels, images and no teacher": (
        ["--weights", "W", "--data", "D", "--images", "D"],
        "give a --teacher",
    ),
    "images nowhere": (
        ["--weights", "W", "--data", "D", "--images", "no/folder", "--teacher", "W"],
        "no/folder: no such folder",
    ),
    "weights missing": (["--weights", "no.pt", "--data", "D"], "no.pt: no such file"),
    "data without train": (["--weights", "W", "--data", "V"], "no key 'train'"),
    "learning rate": (["--weights", "W", "--data", "D", "--lr0", "nan"], "--lr0 is nan"),
    "optimizer": (["--weights", "W", "--data", "D", "--optimizer", "Lion"], "SGD, AdamW or ScaledAdam"),
    "measured without obs": (["--weights", "W", "--data", "D", "--scope", "measured"], "--criterion obs"),
    "obs along the way": (
        ["--weights", "W", "--data", "D", "--criterion", "obs", "--gradual", "1"],
        "leave it out with --criterion obs",
    ),
    "obs of nothing": (
        ["--weights", "W", "--data", "D", "--criterion", "obs", "--calib-images", "0"],
        "--calib-images is 0",
    ),
    "epochs": (["--weights", "W", "--data", "D", "--epochs", "0"], "--epochs is 0"),
    "rate": (
        ["--weights", "W", "--data", "D", "--sparse-train", "-1"],
        "--sparse-train is -1.0; a finite number",
    ),
    "recipe of nothing": (
        ["--weights", "W", "--data", "D", "--sparse-recipe", "yolov8"],
        "give that a rate, too",
    ),
    "recipe": (
        ["--weights", "W", "--data", "D", "--sparse-recipe", "v5"],
        "--sparse-recipe is 'v5'; yolov5 or yolov8 is expected",
    ),
    "tied to nothing": (["--weights", "W", "--data", "D", "--tied"], "--tied goes with --sparse-train"),
    "resume nowhere": (["--weights", "W", "--data", "D", "--resume", "no/folder"], "no training to go on"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, weights, data, tmp_path, case):
    val_only = tmp_path / "val.yaml"
    content = yaml.safe_load(data.read_text()) | {"path": str(data.parent)}
    val_only.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != "train"}))
    places = {"W": weights, "D": data, "V": val_only}
    flags, words = BAD[case]
    code, _, err = run(*(places.get(flag, flag) for flag in flags))
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
