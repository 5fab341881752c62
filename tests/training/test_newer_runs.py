"""Trainings of YOLO11, YOLO12 and YOLO26: zeros stay, teachers teach, the weights of the heads fall."""

import pytest
import torch

from sparsity import ValidationSettings, count_sparsity, keep_head
from sparsity.base.errors import InputError
from sparsity.formats.saving import save
from sparsity.pruning.layers import depthwise_layers
from sparsity.training import run as run_module
from sparsity.training.lessons import lesson_of
from sparsity.training.masks import nonzero_masks
from sparsity.training.preparation import Material, make_run
from sparsity.training.settings import TrainingSettings
from sparsity.yolo.heads import held_heads

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
SMALL = {"epochs": 2, "batch_size": 2, "nominal_batch": 2, "imgsz": 64, "workers": 0, "lr0": 0.001}


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch):
    """The files of a training are tested with the other families."""
    monkeypatch.setattr(run_module, "save", lambda _network, _path: None)


@pytest.fixture
def weights(few_layers, tmp_path):
    def write(family: str, head: str = ""):
        network = few_layers(family=family)
        lesson_of(network).initialise(network.head, 64)  # Plain distances around 0 give no box.
        path = tmp_path / f"{family}{head}.safetensors"
        save(keep_head(network, head) if head else network, path)
        return path

    return write


def start(material, folder, **changes):
    folder.mkdir(exist_ok=True)
    return make_run(material, TrainingSettings(**SMALL | changes), VALIDATION, folder)


@pytest.mark.parametrize(
    ("family", "criterion"), [("yolo11", "l1"), ("yolo12", "obs"), ("yolo26", "obs"), ("yolo26", "l1")]
)
def test_zeros_stay_and_depthwise_layers_are_dense(weights, data, tmp_path, family, criterion):
    run = start(
        Material(weights(family), data=data),
        tmp_path / "run",
        amount=0.5,
        criterion=criterion,
        scope="layer",
        calib_images=2,
    )
    keep = {name: one.clone() for name, one in run.trainer.masks.keep.items()}
    run.run()
    dense = {f"{name}.weight" for name in depthwise_layers(run.trainer.network)}
    assert dense
    assert {name for name, one in keep.items() if one.all()} == dense
    for network in (run.trainer.network, run.trainer.average.network):
        assert all(torch.equal(one, keep[name]) for name, one in nonzero_masks(network).keep.items())
    assert 0.4 < count_sparsity(run.trainer.network).conv < 0.5
    assert all(row.box > 0 and row.dfl > 0 and row.classes > 0 for row in run.rows)
    assert all(row.AP >= 0 for row in run.rows)


def test_a_resumed_training_goes_on_with_the_weight_of_its_epoch(weights, data, tmp_path):
    material = Material(weights("yolo26"), data=data)
    seen = {}

    def watch(run, name):
        seen[name], real = [], run.trainer._loss

        def loss(raw, targets, progress):
            seen[name].append(progress)
            return real(raw, targets, progress)

        run.trainer._loss = loss
        return run

    whole = watch(start(material, tmp_path / "whole", amount=0.3, criterion="l1", epochs=3), "whole")
    whole.run()
    part = start(material, tmp_path / "part", amount=0.3, criterion="l1", epochs=3)
    part._out_of_patience = lambda: len(part.rows) == 1
    part.run()
    again = watch(start(material, tmp_path / "part", amount=0.3, criterion="l1", epochs=3), "again")
    again.resume()
    again.run()
    assert sorted(set(seen["whole"])) == [0, 0.5, 1]
    assert sorted(set(seen["again"])) == [0.5, 1]
    theirs = again.trainer.network.state_dict()
    assert all(torch.equal(one, theirs[name]) for name, one in whole.trainer.network.state_dict().items())


def test_a_teacher_alone_teaches_both_heads(weights, data, tmp_path):
    images, file = data.parent / "images", weights("yolo26")
    material = Material(file, images=images, teacher=file, head="one2one")
    run = start(material, tmp_path / "run", amount=0.5, criterion="l1", epochs=4, lr0=0.02)
    run.run()
    assert run.rows[-1].distillation < 0.95 * run.rows[0].distillation


def test_a_teacher_of_one_head_is_refused(weights, data, tmp_path):
    material = Material(weights("yolo26"), data=data, teacher=weights("yolo26", "one2many"))
    with pytest.raises(
        InputError, match=r"its heads are \('one2many',\), the student's \('one2many', 'one2one'\)"
    ):
        start(material, tmp_path / "run")


def test_a_teacher_of_both_heads_teaches_the_one_that_the_student_holds(weights, data, tmp_path):
    material = Material(weights("yolo26", "one2many"), data=data, teacher=weights("yolo26"))
    run = start(material, tmp_path / "run", epochs=1)
    assert held_heads(run.trainer.teacher) == ("one2many",)
    run.run()
    assert run.rows[-1].distillation >= 0


def test_depthwise_layers_are_pruned_where_it_is_asked_for(weights, data, tmp_path):
    material = Material(weights("yolo11"), data=data)
    run = start(material, tmp_path / "run", amount=0.5, criterion="l1", depthwise=True)
    assert count_sparsity(run.trainer.network).conv == pytest.approx(0.5, abs=1e-3)
    assert run.identity["depthwise"] is True
    other = start(material, tmp_path / "other", amount=0.5, criterion="l1")
    assert "depthwise" not in other.identity, "as trainings before there was the setting"
