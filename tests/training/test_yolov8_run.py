"""finetune.py's trainings of YOLOv8: zeros stay, teachers teach, and what it saw often enough it finds."""

import copy
import shutil

import pytest
import torch
import yaml

from sparsity import ValidationSettings, count_sparsity, load
from sparsity.base.errors import InputError
from sparsity.commands import finetune
from sparsity.formats.saving import save
from sparsity.training.masks import nonzero_masks
from sparsity.training.preparation import Material, _initialise, make_run
from sparsity.training.settings import TrainingSettings

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
COPIES = 25
"""How often an epoch shows each image: few epochs, since each takes time to save."""
SMALL = {"epochs": 2, "batch_size": 2, "nominal_batch": 2, "imgsz": 64, "workers": 0, "lr0": 0.001}


@pytest.fixture
def weights(few_layers, tmp_path):
    save(few_layers(family="yolov8"), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


def start(material, folder, **changes):
    folder.mkdir(exist_ok=True)
    return make_run(material, TrainingSettings(**SMALL | changes), VALIDATION, folder)


@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_zeros_are_those_asked_for_everywhere(weights, data, tmp_path, criterion):
    run = start(
        Material(weights, data=data), tmp_path / "run", amount=0.5, criterion=criterion, calib_images=2
    )
    keep = {name: one.clone() for name, one in run.trainer.masks.keep.items()}
    before = copy.deepcopy(run.trainer.network.state_dict())
    run.run()
    assert keep
    assert not any("dfl" in name for name in keep)
    for network in (run.trainer.network, load(tmp_path / "run" / "last.pt", fused=False)):
        counted = count_sparsity(network)
        assert counted.conv_zeros == pytest.approx(0.5 * counted.conv_weights, abs=counted.conv_layers)
        assert all(torch.equal(one, keep[name]) for name, one in nonzero_masks(network).keep.items())
        assert torch.equal(network.head.dfl.conv.weight.flatten(), torch.arange(16.0))
    assert not torch.equal(before["model.0.conv.weight"], run.trainer.network.model[0].conv.weight)
    assert all(row.box > 0 and row.dfl > 0 and row.classes > 0 and row.objectness == 0 for row in run.rows)
    assert all(row.AP >= 0 for row in run.rows)


def test_a_teacher_alone_teaches(weights, data, tmp_path):
    images = data.parent / "images"
    run = start(
        Material(weights, images=images, teacher=weights),
        tmp_path / "run",
        amount=0.5,
        criterion="l1",
        epochs=3,
        lr0=0.002,
    )
    run.run()
    assert run.rows[-1].distillation < run.rows[0].distillation
    assert {row.box for row in run.rows} == {0.0}


def test_a_teacher_of_another_family_is_refused(weights, network, data, tmp_path):
    save(network, tmp_path / "yolov5.pt")
    with pytest.raises(InputError, match="it is a YOLOv5, the student a YOLOv8; one family is expected"):
        start(Material(weights, data=data, teacher=tmp_path / "yolov5.pt"), tmp_path / "run")


def test_a_training_goes_on_where_it_stopped(weights, data, tmp_path):
    material = Material(weights, data=data)
    whole = start(material, tmp_path / "whole", amount=0.3)
    whole.run()
    part = start(material, tmp_path / "part", amount=0.3)
    part._out_of_patience = lambda: len(part.rows) == 1
    part.run()
    again = start(material, tmp_path / "part", amount=0.3)
    again.resume()
    again.run()
    theirs = again.trainer.network.state_dict()
    assert len(again.rows) == 2
    assert all(torch.equal(one, theirs[name]) for name, one in whole.trainer.network.state_dict().items())


def test_the_script_trains_from_random_weights(unfused_yolov8, data, tmp_path, run_script):
    """unfused_yolov8 is asked for since it makes the narrow size known."""
    flags = {
        "--cfg": "tiny8",
        "--data": data,
        "--imgsz": 64,
        "--epochs": 1,
        "--batch-size": 2,
        "--device": "cpu",
    }
    given = [word for pair in flags.items() for word in pair]
    code, out, err = run_script(finetune, *given, "--project", tmp_path, "--name", "run", "--workers", 0)
    assert code == 0, err
    assert "dfl" in out
    assert load(tmp_path / "run" / "last.pt").dialect == "yolov8"
    assert (tmp_path / "run" / "epochs.png").stat().st_size


@pytest.mark.slow
def test_overfitting_reaches_ap_09(few_layers, shapes, data, tmp_path):
    """Few layers of random weights, on six images of noise with a box each."""
    network = few_layers(family="yolov8")
    _initialise(network, 64)
    save(network, tmp_path / "random.pt")
    folder = shapes.parent
    for kind in ("images", "labels"):
        (folder / "often" / kind).mkdir(parents=True)
        for file in (folder / kind).iterdir():
            for i in range(COPIES):
                shutil.copy(file, folder / "often" / kind / f"{i}-{file.name}")
    content = yaml.safe_load(shapes.read_text()) | {"train": "often/images"}
    shapes.write_text(yaml.safe_dump(content))
    changes = {"epochs": 6, "batch_size": 6, "nominal_batch": 6, "optimizer": "AdamW", "lr0": 0.005}
    run = start(
        Material(tmp_path / "random.pt", data=data),
        tmp_path / "run",
        **changes,
        augment=False,
        decay=0.0,
        warmup=0.2,
    )
    run.run(say=print)
    assert run.rows[-1].AP >= 0.9
