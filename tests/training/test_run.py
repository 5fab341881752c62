"""Training keeps the zeros, repeats itself, goes on where it stopped, and refuses what it can't use."""

import copy
import errno
import itertools
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from sparsity import ValidationSettings, count_sparsity, load, prune
from sparsity.base.errors import InputError
from sparsity.formats.saving import save
from sparsity.training import trainer as engine
from sparsity.training.masks import nonzero_masks
from sparsity.training.preparation import Material, make_run
from sparsity.training.run import ABOUT, STATE, copy_files
from sparsity.training.settings import TrainingSettings
from sparsity.yolo.network import Network

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
SMALL = {"epochs": 2, "batch_size": 2, "nominal_batch": 2, "imgsz": 64, "workers": 0, "lr0": 0.001}
SMALL |= {"criterion": "l1"}


@pytest.fixture
def make_network(few_layers) -> Callable[..., Network]:
    def make(names: tuple[str, ...] = ("cat", "dog", "bird")) -> Network:
        network = few_layers(names)
        for conv in network.head.m:
            torch.nn.init.constant_(conv.bias.data.view(3, -1)[:, 4], -4.0)
        return network

    return make


@pytest.fixture
def weights(make_network, tmp_path) -> Path:
    save(make_network(), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


def run(material: Material, folder: Path, **changes):
    folder.mkdir(exist_ok=True)
    made = make_run(material, TrainingSettings(**SMALL | changes), VALIDATION, folder)
    made.run()
    return made


def raising(error: Exception):
    def stand_in(*_given):
        raise error

    return stand_in


def zeros(network) -> dict[str, torch.Tensor]:
    return {name: ~keep for name, keep in nonzero_masks(network).keep.items()}


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_zeros_are_those_asked_for_everywhere(weights, data, tmp_path, optimizer):
    made = make_run(
        Material(weights, data=data),
        TrainingSettings(**SMALL, amount=0.5, optimizer=optimizer, decay=0.1),
        VALIDATION,
        tmp_path,
    )
    at_first = zeros(made.trainer.network)
    before = copy.deepcopy(made.trainer.network.state_dict())
    made.run()
    layers = count_sparsity(made.trainer.network).conv_layers
    for network in (
        made.trainer.network,
        made.trainer.average.network,
        load(tmp_path / "last.pt", fused=False),
        load(tmp_path / "best.pt", fused=False),
    ):
        counted = count_sparsity(network)
        assert counted.conv_zeros == pytest.approx(0.5 * counted.conv_weights, abs=layers)
        assert all(torch.equal(at_first[name], where) for name, where in zeros(network).items())
    after = made.trainer.network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in at_first), "nothing was trained"


def test_no_momentum_gathers_in_masked_weights(weights, data, tmp_path):
    trainer = run(Material(weights, data=data), tmp_path, amount=0.5).trainer
    buffers = trainer.optimizer.state
    seen = 0
    for name, keep in trainer.masks.keep.items():
        momentum = buffers[trainer.network.get_parameter(name)]["momentum_buffer"]
        assert (momentum[~keep] == 0).all()
        seen += int((momentum[keep] != 0).sum())
    assert seen


def test_gradual_pruning_only_ever_adds_zeros(weights, data, tmp_path, monkeypatch):
    seen = []
    real = engine.prune_unfused

    def spy(network, method, amount, *more, **about):
        masks = real(network, method, amount, *more, **about)
        seen.append((amount, {name: ~keep for name, keep in masks.keep.items()}))
        return masks

    monkeypatch.setattr(engine, "prune_unfused", spy)
    made = run(Material(weights, data=data), tmp_path, amount=0.6, gradual=2, epochs=3)
    amounts = [amount for amount, _ in seen]
    assert amounts == sorted(amounts)
    assert amounts[0] < 0.1
    assert amounts[-1] == pytest.approx(0.6)
    for (_, earlier), (_, later) in itertools.pairwise(seen):
        assert all((earlier[name] & ~later[name]).sum() == 0 for name in earlier)
    counted = count_sparsity(made.trainer.average.network)
    assert counted.conv_zeros == pytest.approx(0.6 * counted.conv_weights, abs=counted.conv_layers)


def test_zeros_of_a_pruned_file_are_kept_without_asking(weights, data, tmp_path):
    run(Material(weights, data=data), tmp_path / "first", amount=0.5, epochs=1)
    made = run(Material(tmp_path / "first" / "last.pt", data=data), tmp_path / "second", epochs=1)
    first = load(tmp_path / "first" / "last.pt", fused=False)
    expected, found = zeros(first), zeros(made.trainer.average.network)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("more", ["", "teacher", "teacher images"])
def test_resume_gives_what_an_uninterrupted_run_gives(weights, data, tmp_path, more):
    given = {"teacher": weights, "images": data.parent / "images"}
    material = Material(weights, data=data, **{name: given[name] for name in more.split()})
    whole = run(material, tmp_path / "whole", amount=0.5, epochs=3)
    folder = tmp_path / "stopped"
    folder.mkdir()
    settings = TrainingSettings(**SMALL | {"amount": 0.5, "epochs": 3})
    stopped = make_run(material, settings, VALIDATION, folder)
    real, calls = stopped.trainer.run_epoch, []

    def two_epochs(epoch, **more):
        calls.append(epoch)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(epoch, **more)

    stopped.trainer.run_epoch = two_epochs
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    again = make_run(material, settings, VALIDATION, folder)
    again.resume()
    again.run()
    assert [row.epoch for row in again.rows] == [1, 2, 3]
    for one, other in zip(whole.rows, again.rows, strict=True):
        assert one.box == pytest.approx(other.box, rel=1e-4)
        assert one.distillation == pytest.approx(other.distillation, rel=1e-4)
    theirs = again.trainer.average.network.state_dict()
    for name, tensor in whole.trainer.average.network.state_dict().items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5)
    assert len(pd.read_csv(folder / "epochs.csv")) == 3


def test_a_seed_repeats_a_run(weights, data, tmp_path):
    one, two = (run(Material(weights, data=data), tmp_path / name, epochs=1) for name in "ab")
    other = run(Material(weights, data=data), tmp_path / "c", epochs=1, seed=1)
    assert one.rows[0].box == pytest.approx(two.rows[0].box, rel=1e-5)
    assert one.rows[0].box != other.rows[0].box


def test_distillation_alone_brings_the_student_to_its_teacher(weights, data, tmp_path):
    material = Material(weights, images=data.parent / "images", teacher=weights)
    made = run(material, tmp_path, amount=0.3, epochs=12, lr0=0.003, optimizer="AdamW", augment=False)
    losses = [row.distillation for row in made.rows]
    assert np.mean(losses[-2:]) < 0.9 * losses[0]
    assert all(row.box == row.objectness == row.classes == 0 for row in made.rows)
    assert made.rows[-1].AP == -1.0
    assert (tmp_path / "best.pt").exists()


def test_a_teacher_that_is_the_student_teaches_nothing_where_nothing_is_pruned(weights, data, tmp_path):
    made = make_run(
        Material(weights, data=data, teacher=weights), TrainingSettings(**SMALL), VALIDATION, tmp_path
    )
    made.trainer.model.eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    parts = made.trainer._forward(images, torch.zeros(0, 6), 2, 0)
    assert float(parts["distillation"].detach()) == pytest.approx(0, abs=1e-4)


@pytest.fixture
def mixed(weights, data, tmp_path):
    """A run of six labelled images and, beside them, three without labels."""
    (tmp_path / "more").mkdir()
    for i in range(3):
        shutil.copy(data.parent / "images" / f"{i}.png", tmp_path / "more")
    material = Material(weights, data=data, images=tmp_path / "more", teacher=weights)
    (tmp_path / "run").mkdir()
    return make_run(material, TrainingSettings(**SMALL, amount=0.5), VALIDATION, tmp_path / "run")


def test_labelled_and_unlabelled_images_train_together(mixed):
    mixed.run()
    assert len(mixed.trainer.images) == 9
    assert all(row.box > 0 and row.distillation > 0 and row.AP >= 0 for row in mixed.rows)


def test_labels_are_learnt_from_where_there_are_some(mixed):
    trainer, images = mixed.trainer, torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    trainer.model.eval()
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4], [1, 2, 0.3, 0.6, 0.2, 0.5]])
    parts = trainer._forward(images, targets, 2, 0)
    alone = trainer._forward(images[:2], targets, 2, 0)
    for name in ("box", "objectness", "classes"):
        assert float(parts[name].detach()) == pytest.approx(float(alone[name].detach())), name
    assert set(trainer._forward(images, torch.zeros(0, 6), 0, 0)) == {"distillation", "blocks"}


def test_losses_are_means_of_the_images_they_are_of(mixed, monkeypatch):
    seen = []

    def losses(found, _wanted, _targets, labelled):
        images = len(found.raw[0])
        seen.append((images, labelled))
        nothing = sum(level.sum() for level in found.raw) * 0
        parts = {"box": nothing + 2 * labelled} if labelled else {}
        return parts | {"distillation": nothing + 3 * images}

    monkeypatch.setattr(mixed.trainer, "_losses", losses)
    mixed.run()
    assert [sum(counts) for counts in zip(*seen, strict=True)] == [18, 12]
    assert [(row.box, row.distillation) for row in mixed.rows] == [(2, 3), (2, 3)]


def test_a_diverging_run_stops_and_keeps_the_last_good_file(weights, data, tmp_path, monkeypatch):
    settings = TrainingSettings(**SMALL, sparse_train=0.25)
    made = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    real = made.trainer._losses

    def losses(*given):
        parts = real(*given)
        if made.rows:
            parts["box"] = parts["box"] * float("nan")
        return parts

    monkeypatch.setattr(made.trainer, "_losses", losses)
    with pytest.raises(
        InputError, match=r"2: the loss is nan.*`sparse_train` \(it is 0.25\).*last.pt is that of"
    ):
        made.run()
    for name in ("last.pt", "best.pt"):
        kept = load(tmp_path / name, fused=False)
        assert all(torch.isfinite(tensor).all() for tensor in kept.state_dict().values())
    assert len(pd.read_csv(tmp_path / "epochs.csv")) == 1
    again = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    again.resume()
    assert len(again.rows) == 1


CPU_ERROR = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: "


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), id="GPU"),
        pytest.param(RuntimeError(CPU_ERROR + "can't allocate memory: you tried to allocate 9"), id="Linux"),
        pytest.param(RuntimeError(CPU_ERROR + "not enough memory: you tried to allocate 9"), id="Windows"),
    ],
)
def test_a_batch_that_does_not_fit_names_what_to_change(weights, data, tmp_path, monkeypatch, error):
    made = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)
    monkeypatch.setattr(made.trainer, "_losses", raising(error))
    words = (
        r"`batch_size` is 2, .* memory of cpu .* images of 64 x 64; .*`nominal_batch` 2.*nothing was saved"
    )
    with pytest.raises(InputError, match=words):
        made.run()


def test_any_other_error_of_torch_is_a_defect(weights, data, tmp_path, monkeypatch):
    made = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)
    monkeypatch.setattr(made.trainer, "_losses", raising(RuntimeError("sizes do not match")))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        made.run()


def test_patience_ends_a_run(weights, data, tmp_path):
    said: list[str] = []
    made = make_run(
        Material(weights, data=data),
        TrainingSettings(**SMALL | {"patience": 1, "epochs": 5}),
        VALIDATION,
        tmp_path,
    )
    rows = iter([0.45, 0.5, 0.4])
    made._validate = lambda _network: {"AP": next(rows), "AP50": 0.6}
    made.run(say=said.append)
    assert len(made.rows) == 2
    assert said[0] == "before training: AP 0.450 AP50 0.600"
    assert "Stopped after 2 epochs" in said[-1], "and no warning: AP is better than before"


def test_a_training_that_makes_the_network_worse_says_so(weights, data, tmp_path):
    said: list[str] = []
    material, settings = Material(weights, data=data), TrainingSettings(**SMALL)
    made = make_run(material, settings, VALIDATION, tmp_path)
    rows = iter([0.709, 0.05, 0.06])
    made._validate = lambda _network: {"AP": next(rows), "AP50": 0.8}
    made.run(say=said.append)
    assert "WARNING: training did not help: AP was 0.709 before it, and is 0.060" in said[-1]
    assert said[-1].endswith("best.pt is the network from before")
    best, start = load(tmp_path / "best.pt", fused=False), load(weights, fused=False)
    assert all(torch.equal(best.state_dict()[k], v) for k, v in start.state_dict().items())
    again = make_run(material, settings, VALIDATION, tmp_path)
    again.resume()
    assert again.before == {"AP": 0.709, "AP50": 0.8}


def test_the_best_network_has_all_zeros_though_earlier_ones_have_fewer(weights, data, tmp_path):
    said: list[str] = []
    settings = TrainingSettings(**SMALL | {"epochs": 4}, amount=0.8, gradual=2, patience=2)
    made = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    rows = iter([0.9, 0.8, 0.7, 0.3, 0.2])
    made._validate = lambda _network: {"AP": next(rows), "AP50": 0.8}
    made.run(say=said.append)
    assert [row.AP for row in made.rows] == [0.8, 0.7, 0.3, 0.2], "patience begins with the last zeros"
    assert count_sparsity(load(tmp_path / "best.pt")).conv == pytest.approx(made.rows[2].sparsity_conv)
    assert made.rows[0].sparsity_conv < 0.75 < made.rows[2].sparsity_conv
    assert not said[-1].endswith("from before"), "that is dense"


def test_the_first_step_learns_and_steps_are_counted(weights, data, tmp_path, monkeypatch):
    settings = TrainingSettings(**SMALL | {"nominal_batch": 64, "lr0": 0.1, "epochs": 3}, warmup=2)
    made = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    assert made.trainer.steps == 3, "of six images, one an epoch"
    rates, real = [], made.trainer._step

    def spy(epoch):
        rates.append(made.trainer.optimizer.param_groups[0]["lr"])
        real(epoch)

    monkeypatch.setattr(made.trainer, "_step", spy)
    made.run()
    cosine = [(1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in (1, 2, 3)]
    expected = [0.1 * (0.01 + 0.99 * part) * warm for part, warm in zip(cosine, (0.5, 1, 1), strict=True)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "criterion", "scope"),
    [
        pytest.param({"amount": 0.5}, "obs", "measured", id="pruned"),
        pytest.param({"amount": 0.5, "scope": "layer"}, "obs", "layer", id="pruned, with a scope"),
        pytest.param({"amount": 0.5, "gradual": 2}, "l1", "layer", id="gradually"),
        pytest.param({}, "l1", "layer", id="not pruned"),
        pytest.param({"amount": 0.5, "criterion": "lamp"}, "l1", "lamp", id="named"),
    ],
)
def test_the_default_criterion(given, criterion, scope):
    settings = TrainingSettings(**given)
    assert (settings.criterion, settings.scope) == (criterion, scope)


def test_threads_read_the_images(weights, data, tmp_path):
    one = run(Material(weights, data=data), tmp_path / "a", epochs=1)
    two = run(Material(weights, data=data), tmp_path / "b", epochs=1, workers=2)
    assert two.trainer._loader.num_workers == 0, "no process, which would need shared memory"
    assert one.rows[0].box == pytest.approx(two.rows[0].box, rel=1e-5)


def test_a_full_disk_is_one_line_and_keeps_the_state_before(weights, data, tmp_path, monkeypatch):
    made = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)
    real, calls = Path.write_bytes, []

    def full(path, content):
        if STATE in path.name:
            calls.append(path)
        if len(calls) > 1:
            real(path, bytes(content)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"state\.pt: cannot be written \(No space left on device\)"):
        made.run()
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.part"))
    again = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)
    again.resume()
    assert len(again.rows) == 1


def test_a_copy_that_ends_midway_can_be_resumed(weights, data, tmp_path, monkeypatch):
    first = run(Material(weights, data=data), tmp_path / "first")
    files = {file.name: file.read_bytes() for file in sorted(first.folder.iterdir()) if file.is_file()}
    assert {ABOUT, STATE, "epochs.csv", "last.pt"} < set(files)
    real = Path.write_bytes
    for whole in range(len(files)):
        calls = itertools.count()

        def stop(path, content, calls=calls, whole=whole):
            if next(calls) == whole:
                raise KeyboardInterrupt
            return real(path, content)

        folder = tmp_path / f"copy{whole}"
        monkeypatch.setattr(Path, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            copy_files(files, folder)
        monkeypatch.undo()
        assert len(list(folder.iterdir())) == whole
        if (folder / STATE).exists():
            again = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, folder)
            again.resume()
            assert len(again.rows) == 2
    assert (folder / STATE).exists()


def test_one_cell_of_one_image_is_refused(weights, data, tmp_path):
    settings = SMALL | {"imgsz": 32, "batch_size": 5}
    with pytest.raises(InputError, match=r"`imgsz` is 32.*`batch_size` is 5, there are 6 .*`freeze_bn`"):
        make_run(Material(weights, data=data), TrainingSettings(**settings), VALIDATION, tmp_path)
    for changes in ({"batch_size": 4}, {"imgsz": 64}, {"freeze_bn": True}):
        run(Material(weights, data=data), tmp_path, **settings | {"epochs": 1} | changes)


def test_a_head_of_two_maps_is_trained(two_heads_unfused, data, tmp_path):
    save(two_heads_unfused, tmp_path / "two.pt")
    given = Material(tmp_path / "two.pt", data=data, teacher=tmp_path / "two.pt")
    made = run(given, tmp_path / "run", imgsz=48, epochs=1)
    assert made.settings.imgsz == 64
    row = made.rows[0]
    assert min(row.box, row.objectness) > 0
    assert row.AP >= 0


def test_obs_prunes_exactly_and_keeps_the_statistics(weights, data, tmp_path):
    settings = {"amount": 0.5, "criterion": "obs", "calib_images": 4}
    made = make_run(Material(weights, data=data), TrainingSettings(**SMALL | settings), VALIDATION, tmp_path)
    at_first = zeros(made.trainer.network)
    plain = zeros(prune(load(weights), 0.5))
    assert any(not torch.equal(at_first[name], plain[name]) for name in plain), "as magnitude would"
    means = {k: v.clone() for k, v in made.trainer.network.named_buffers() if "running" in k}
    made.run()
    for network in (made.trainer.network, load(tmp_path / "last.pt", fused=False)):
        counted = count_sparsity(network)
        assert counted.conv_zeros == pytest.approx(0.5 * counted.conv_weights, abs=counted.conv_layers)
        assert all(torch.equal(at_first[name], where) for name, where in zeros(network).items())
    after = dict(made.trainer.network.named_buffers())
    assert all(torch.equal(after[name], mean) for name, mean in means.items())


def test_obs_is_spared_when_its_run_goes_on(weights, data, tmp_path):
    settings = TrainingSettings(**SMALL | {"amount": 0.5, "criterion": "obs", "calib_images": 4, "epochs": 1})
    first = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    first.run()
    again = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path, resuming=True)
    again.resume()
    ours, theirs = zeros(again.trainer.network), zeros(first.trainer.network)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.trainer.masks.zeros == first.trainer.masks.zeros


@pytest.mark.parametrize(("freeze", "moved"), [(False, True), (True, False)])
def test_statistics_of_batch_norms_move_unless_frozen(weights, data, tmp_path, freeze, moved):
    before = dict(load(weights, fused=False).named_buffers())["model.0.bn.running_mean"]
    network = run(Material(weights, data=data), tmp_path, epochs=1, freeze_bn=freeze).trainer.network
    after = dict(network.named_buffers())["model.0.bn.running_mean"]
    assert torch.equal(before, after) is not moved


def test_noval_validates_the_last_epoch_alone(weights, data, tmp_path):
    made = run(Material(weights, data=data), tmp_path, epochs=3, noval=True, patience=1)
    assert [row.AP >= 0 for row in made.rows] == [False, False, True]
    best, last = (load(tmp_path / name).state_dict() for name in ("best.pt", "last.pt"))
    assert all(torch.equal(best[name], last[name]) for name in last)


def test_from_random_weights(data, tmp_path):
    made = run(Material(cfg="yolov5n", data=data), tmp_path, epochs=1)
    assert made.trainer.network.names == ("cat", "dog", "bird")
    assert load(tmp_path / "last.pt").head.anchors[0, 0].tolist() == [10 / 8, 13 / 8]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"amount": 0.4}, "amount was 0.5, now is 0.4", id="sparsity"),
        pytest.param({"epochs": 3}, "epochs was 2, now is 3", id="epochs"),
        pytest.param({"lr0": 0.5}, "lr0 was 0.001, now is 0.5", id="learning rate"),
    ],
)
def test_resume_refuses_other_settings(weights, data, tmp_path, changes, words):
    run(Material(weights, data=data), tmp_path, amount=0.5)
    settings = TrainingSettings(**SMALL | {"amount": 0.5} | changes)
    again = make_run(Material(weights, data=data), settings, VALIDATION, tmp_path)
    with pytest.raises(InputError, match=words):
        again.resume()


def test_resume_deletes_what_a_killed_process_left(weights, data, tmp_path):
    run(Material(weights, data=data), tmp_path, epochs=1)
    (tmp_path / f".last.pt.{'0' * 32}.part").write_bytes(b"half")
    again = make_run(
        Material(weights, data=data), TrainingSettings(**SMALL | {"epochs": 1}), VALIDATION, tmp_path
    )
    again.resume()
    assert not list(tmp_path.glob(".*"))


def test_resume_refuses_other_images(mixed, weights, data, tmp_path):
    mixed.run()
    (tmp_path / "more" / "2.png").unlink()
    material = Material(weights, data=data, images=tmp_path / "more", teacher=weights)
    again = make_run(material, mixed.settings, VALIDATION, tmp_path / "run")
    with pytest.raises(InputError, match=r"unlabelled was 3 images, sha256 .* now is 2 images"):
        again.resume()


def test_a_new_network_needs_names_without_gaps(data, tmp_path):
    content = yaml.safe_load(data.read_text()) | {"names": {0: "cat", 1: "dog", 3: "bird"}}
    data.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"names has no number 2; `cfg` makes a network of the 3 classes"):
        make_run(Material(cfg="yolov5n", data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)


def test_resume_needs_a_run(weights, data, tmp_path):
    made = make_run(Material(weights, data=data), TrainingSettings(**SMALL), VALIDATION, tmp_path)
    with pytest.raises(InputError, match="holds no training to go on with"):
        made.resume()
    (tmp_path / "state.pt").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        made.resume()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "`weights` to train on a checkpoint, or `cfg`"),
        ({"weights": "a.pt", "cfg": "yolov5n"}, "give one"),
        ({"cfg": "yolov9", "data": "d"}, "`cfg` is 'yolov9'"),
        ({"cfg": "yolov5n", "images": "i", "teacher": "t.pt"}, "`cfg` needs `data`"),
        ({"weights": "a.pt"}, "`data` for labelled images, or `images`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_material_that_is_missing_or_contradicts(given, words):
    with pytest.raises(InputError, match=words):
        Material(**given)


def test_a_teacher_of_other_classes_is_refused(make_network, weights, data, tmp_path):
    save(make_network(names=("cat", "cow")), tmp_path / "other.pt")
    with pytest.raises(InputError, match="its classes are 2, the student's 3"):
        make_run(
            Material(weights, data=data, teacher=tmp_path / "other.pt"),
            TrainingSettings(),
            VALIDATION,
            tmp_path,
        )


def test_a_fused_file_cannot_be_trained_on(data, network, tmp_path):
    save(network, tmp_path / "fused.pt")
    with pytest.raises(InputError, match="already folded in"):
        make_run(Material(tmp_path / "fused.pt", data=data), TrainingSettings(), VALIDATION, tmp_path)


def launch_two(script: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes on the CPU. (Here, accelerate launch starts one.)"""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [str(part) for part in (*launch, script, *flags, "--device", "cpu")]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


UNEQUAL = """
import hashlib
import math
import os
import sys
from pathlib import Path

from sparsity.commands.running import run_command
from sparsity.training import preparation, trainer

OTHER = os.environ["RANK"] == "1"
prune_by_images, losses, run = preparation.prune_by_images, trainer.Trainer._losses, preparation.Run.run
run_epoch, found = trainer.Trainer.run_epoch, []


def prune_unequally(network, *given, **named):
    network = prune_by_images(network, *given, **named)
    if OTHER:
        for layer in network.parameters():
            layer.data = layer.data.flip(0)
    return network


def diverge_in_one(self, *given):
    parts = losses(self, *given)
    if OTHER and self.settings.lr0 == 0.01:
        parts = {name: part * math.nan for name, part in parts.items()}
    return parts


def learn(self, *given, **named):
    found.append(run_epoch(self, *given, **named))
    return found[-1]


def tell(self, **named):
    run(self, **named)
    kept = b"".join(one.numpy().tobytes() for one in self.trainer.masks.keep.values())
    text = f"{hashlib.sha256(kept).hexdigest()} {found[-1]}"
    Path(sys.argv[0]).with_suffix("." + os.environ["RANK"]).write_text(text)


preparation.prune_by_images = prune_unequally
trainer.Trainer._losses = diverge_in_one
trainer.Trainer.run_epoch = learn
preparation.Run.run = tell
run_command("finetune")
"""
"""finetune, where the second process prunes other weights, and its loss is nan at a rate of 0.01."""


@pytest.mark.slow
def test_two_processes_train_one_network(weights, data, tmp_path):
    script = tmp_path / "unequal.py"
    script.write_text(UNEQUAL)
    flags = ["--weights", weights, "--data", data, "--sparsity", "0.5", "--epochs", "2", "--imgsz", "64"]
    more = ["--batch-size", "2", "--nominal-batch", "4", "--project", tmp_path / "r"]
    done = launch_two(script, *flags, *more)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["train"]
    assert done.stdout.count(", 2 processes\n") == 1
    assert done.stdout.count("epoch 2/2") == 1
    assert done.stdout.count("Learning rate... ") == 1
    assert "0.01: nan)" in done.stdout
    rows = pd.read_csv(tmp_path / "r" / "train" / "epochs.csv")
    assert rows.epoch.tolist() == [1, 2]
    counted = count_sparsity(load(tmp_path / "r" / "train" / "last.pt"))
    assert counted.conv_zeros == pytest.approx(0.5 * counted.conv_weights, abs=counted.conv_layers)
    told = {script.with_suffix(f".{rank}").read_text() for rank in "01"}
    assert len(told) == 1, "the same masks, and the losses of both"
    assert "images=8, labelled=8" in told.pop(), "six, and two that fill the last batches"
