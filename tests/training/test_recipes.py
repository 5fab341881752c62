"""The settings that were left out, the rate that is found, and the teacher by default."""

import json
import math

import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.data.augment import NONE, Augmentation
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.pruning.scaled_adam import UNIT, scaled_adam
from sparsity.pruning.zeros import count_sparsity
from sparsity.training import rate_search
from sparsity.training.optimizer import make_optimizer, set_rates
from sparsity.training.preparation import NO_TEACHER, Material, make_run
from sparsity.training.rate_search import RATES, find_rate
from sparsity.training.recipes import (
    FEWEST_EPOCHS,
    IMAGES_SEEN,
    MOST_EPOCHS,
    augmentation_of,
    complete,
    describe_augmentation,
)
from sparsity.training.settings import TrainingSettings
from sparsity.training.trainer import DivergedError
from sparsity.validation.settings import ValidationSettings

SHORT = {"amount": 0.5, "imgsz": 64, "workers": 0, "batch_size": 2, "calib_images": 4, "epochs": 2}
VALIDATION = ValidationSettings(imgsz=64, workers=0, device="cpu")


@pytest.mark.parametrize("images", [1, 8, 100, 378, 1000, 100_000])
def test_steps_decide_and_not_epochs(images):
    settings = complete(TrainingSettings(amount=0.5), images, pruned=True)
    assert FEWEST_EPOCHS <= settings.epochs <= MOST_EPOCHS
    if FEWEST_EPOCHS < settings.epochs < MOST_EPOCHS:
        assert IMAGES_SEEN <= settings.epochs * images < IMAGES_SEEN + images
    assert settings.optimizer == "ScaledAdam"
    assert settings.accumulate == 1
    assert settings.lr0 is None, "a trial finds it"


def test_networks_without_zeros_train_by_the_recipe_of_yolov5():
    for given, pruned in ((TrainingSettings(), False), (TrainingSettings(sparse_train=0.01), True)):
        settings = complete(given, 378, pruned=pruned)
        shown = (settings.epochs, settings.batch_size, settings.nominal_batch, settings.optimizer)
        assert shown == (10, 16, 64, "SGD")
        assert (settings.lr0, settings.warmup, settings.mosaic) == (0.01, 1.0, 1.0)


def test_what_is_given_stays():
    given = {"epochs": 3, "batch_size": 5, "nominal_batch": 10, "lr0": 0.5, "warmup": 0.25, "mosaic": 0.0}
    settings = complete(TrainingSettings(amount=0.5, **given), 378, pruned=True)
    assert {name: getattr(settings, name) for name in given} == given
    assert settings.optimizer == "SGD", "whose rate lr0 has always been"
    assert complete(settings, 10, pruned=True) == settings


def test_flips_and_colours_are_those_of_the_checkpoints_training():
    settings = complete(TrainingSettings(amount=0.5), 378, pruned=True)
    told = {"fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.7, "scale": 0.9, "mosaic": 1.0, "imgsz": 320}
    augmentation = augmentation_of(settings, told)
    assert augmentation == Augmentation(mosaic=0.5, flip=0.0, hue=0.0), "the rest is ours"
    assert "hue 0, not 0.015; flip 0, not 0.5" in describe_augmentation(augmentation)
    usual = augmentation_of(settings, {})
    assert (usual, describe_augmentation(usual)) == (Augmentation(mosaic=0.5), "")
    off = complete(TrainingSettings(amount=0.5, augment=False), 378, pruned=True)
    assert augmentation_of(off, told) == NONE


def test_a_training_flips_as_its_checkpoint_did(weights, data, tmp_path, capsys):
    network = load(weights, fused=False)
    network.trained_with = {"fliplr": 0.0}
    save(network, tmp_path / "upright.pt")
    material = Material(weights=tmp_path / "upright.pt", data=data)
    run = make_run(material, TrainingSettings(**SHORT, lr0=0.01), VALIDATION, tmp_path / "r", progress=True)
    assert run.trainer.images.augmentation.flip == 0
    assert "Augmentation... as the checkpoint was trained: flip 0, not 0.5" in capsys.readouterr().out


def test_gradual_pruning_needs_no_trial_and_enough_epochs():
    settings = complete(TrainingSettings(amount=0.5, gradual=150), 1000, pruned=True)
    assert (settings.epochs, settings.lr0) == (300, 0.01)
    with pytest.raises(InputError, match="`gradual` is 11, more than the 10 epochs"):
        complete(TrainingSettings(amount=0.5, gradual=11, epochs=10), 1000, pruned=True)


def test_rates_are_shares_of_the_tensors_size():
    weight = torch.full((4, 8, 3, 3), 2.0)
    weight[:, :4] = 0
    bias, nothing = torch.tensor([3.0, -3.0]), torch.zeros(5)
    parameters = [torch.nn.Parameter(one) for one in (weight, bias, nothing)]
    units = [group[UNIT] for group in scaled_adam(parameters, 0.1).param_groups]
    assert units == pytest.approx([2 / math.sqrt(36), 3.0, 0.0])
    optimizer = scaled_adam(parameters, 0.1)
    settings = complete(TrainingSettings(amount=0.5, lr0=0.1, optimizer="ScaledAdam"), 100, pruned=True)
    rate = set_rates(optimizer, settings, settings.epochs / 2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate * one for one in units])


class FakeAccelerator:
    def free_memory(self):
        pass


class FakeTrainer:
    """A training whose loss after a trial is given."""

    settings = TrainingSettings(epochs=1)
    accelerator = FakeAccelerator()

    def __init__(self, loss):
        self.loss = loss

    def run_epoch(self, _epoch):
        if self.loss == "diverges":
            raise DivergedError("the loss is nan")

    def measure(self, _batches, _epoch):
        return self.loss


@pytest.mark.parametrize(
    ("losses", "best", "tried"),
    [
        ([3.0, 2.0, 2.5, 2.6], 1, 4),
        ([3.0, 2.0, 9.0, 0.1], 1, 3),
        ([2.0, 2.03, 2.2, 2.6], 1, 4),
        ([3.0, "diverges", 0.1, 0.1], 0, 2),
        (["diverges"] * 4, 0, 1),
        ([4.0, 3.0, 2.0, 1.0], 3, 4),
    ],
    ids=[
        "a minimum",
        "stops at twice the lowest",
        "the larger of two that are nearly equal",
        "a trial diverges",
        "all diverge",
        "the largest",
    ],
)
def test_the_rate_with_the_lowest_loss_is_found(losses, best, tried):
    rates = RATES["ScaledAdam"]
    found = find_rate(lambda rate: FakeTrainer(losses[rates.index(rate)]), "ScaledAdam")
    assert (found.best, len(found.losses)) == (rates[best], tried)
    assert f"Learning rate... {rates[best]:g} (" in found.describe()


@pytest.fixture
def weights(few_layers, tmp_path):
    save(few_layers(("cat", "dog", "bird")), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


def test_the_rate_is_found_once_and_is_the_same_by_seed(weights, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_search, "MEASURED_BATCHES", 1)
    monkeypatch.setattr("sparsity.training.preparation.STEPS", 2)
    material, settings, found = Material(weights, data=data), TrainingSettings(**SHORT), []
    for number in range(2):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        run = make_run(material, settings, VALIDATION, folder)
        found.append((run.settings.lr0, capsys.readouterr().out))
    assert found[0] == found[1]
    assert f"Learning rate... {found[0][0]:g} (loss after" in found[0][1]
    run.run()
    again = make_run(material, settings, VALIDATION, folder, resuming=True)
    assert capsys.readouterr().out.count("Learning rate") == 0
    again.resume()
    assert again.settings.lr0 == found[0][0]


def test_the_checkpoint_is_its_own_teacher_where_it_is_pruned(weights, data, tmp_path):
    settings = TrainingSettings(**SHORT, lr0=1e-4)
    run = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    assert run.trainer.teacher is not None
    losses = run.trainer.run_epoch(0)
    assert losses.distillation > 0
    assert losses.blocks > 0
    alone = make_run(Material(weights, data=data, teacher=NO_TEACHER), settings, VALIDATION, tmp_path)
    assert alone.trainer.teacher is None
    assert alone.trainer.run_epoch(0).blocks == 0
    assert alone.identity != run.identity
    dense = make_run(
        Material(weights, data=data), TrainingSettings(**SHORT | {"amount": 0.0}), VALIDATION, tmp_path
    )
    assert dense.trainer.teacher is None


def test_images_without_labels_need_no_teacher_named(weights, data, tmp_path):
    images = data.parent / "images"
    settings = TrainingSettings(**SHORT, lr0=1e-4)
    assert make_run(Material(weights, images=images), settings, VALIDATION, tmp_path).trainer.teacher
    unpruned = TrainingSettings(**SHORT | {"amount": 0.0})
    for material in (Material(weights, images=images), Material(weights, images=images, teacher=NO_TEACHER)):
        with pytest.raises(InputError, match="`images` have no labels: give a `teacher`"):
            make_run(material, unpruned, VALIDATION, tmp_path)


def test_a_checkpoint_with_zeros_trains_by_the_recipe_of_pruned_ones(weights, data, tmp_path):
    network = load(weights, fused=False)
    with torch.no_grad():
        network.get_submodule("model.1.conv").weight[:, ::2] = 0
    save(network, tmp_path / "sparse.pt")
    settings = TrainingSettings(**SHORT | {"amount": 0.0}, lr0=0.01, optimizer="ScaledAdam")
    run = make_run(Material(tmp_path / "sparse.pt", data=data), settings, VALIDATION, tmp_path)
    assert run.settings.nominal_batch == 2
    assert make_optimizer(run.trainer.network, run.settings).param_groups[0][UNIT] > 0
    assert json.dumps(run.identity)


def test_a_dense_checkpoint_with_a_few_zeros_is_dense(weights, data, tmp_path):
    network = load(weights, fused=False)
    with torch.no_grad():
        network.get_submodule("model.1.conv").weight[0, 0, 0, 0] = 0  # as rounding to half leaves them
    save(network, tmp_path / "rounded.pt")
    assert count_sparsity(network).conv_zeros
    settings = TrainingSettings(**SHORT | {"amount": 0.0})
    run = make_run(Material(tmp_path / "rounded.pt", data=data), settings, VALIDATION, tmp_path)
    assert (run.settings.optimizer, run.settings.nominal_batch) == ("SGD", 64)
