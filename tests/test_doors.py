"""What a stranger adds from outside the package: a criterion, an engine, a saved form; in one file each."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sparsity import (
    CRITERIA,
    ENGINES,
    FORMS,
    Engine,
    InputError,
    Method,
    Pruner,
    SavedForm,
    ScoreCriterion,
    ValidationSettings,
    count_sparsity,
    load,
    save,
    sweep,
    validate,
)
from sparsity.commands import finetune, val
from sparsity.formats.half import round_to_half
from sparsity.formats.pt import WRITERS
from sparsity.training.lessons import LESSONS
from sparsity.validation.counting import COUNTING
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import DIALECTS, FAMILIES
from sparsity.yolo.network import Network, build

QUICK = ValidationSettings(imgsz=64, batch_size=2, device="cpu", workers=0)


class Largest(ScoreCriterion):
    """Prunes the largest weights: of no use but to be told from magnitude."""

    name = "largest"
    title = "the largest weights"

    def scores(self, name: str, conv: nn.Conv2d) -> torch.Tensor:
        return -conv.weight.abs()


@pytest.fixture
def registered():
    """The criterion in the table."""
    CRITERIA.register(Largest.name, Largest)
    yield
    CRITERIA.unregister(Largest.name)


def test_a_criterion_object_prunes_without_being_registered(shallow):
    for pruner, method in ((Pruner(shallow), Largest()), (Pruner(shallow, criterion=Largest()), None)):
        pruned = pruner.prune(method, 0.5)
        assert count_sparsity(pruned).conv == pytest.approx(0.5, abs=0.01)
        weight, before = pruned.model[1].conv.weight, shallow.model[1].conv.weight
        gone = weight == 0
        assert before[gone].abs().min() >= before[~gone].abs().max(), "the largest are zero"


@pytest.mark.parametrize("scope", ["layer", "erk"])
def test_a_criterion_object_has_its_rows_in_a_sweep(slight, shapes, scope):
    methods = [Method("l1", scope), Method(Largest(), scope)]
    frame = sweep(slight, shapes, [0.5], methods=methods, settings=QUICK, batch_sizes=(), bootstrap=0)
    assert frame.criterion.tolist() == ["l1", "l1", "largest", "largest"]
    ours, theirs = (frame[(frame.criterion == name) & (frame.amount > 0)] for name in ("largest", "l1"))
    assert ours.conv_zeros.item() == theirs.conv_zeros.item()


def test_a_registered_criterion_is_one_of_the_flags(registered, run_script, slight, shapes, tmp_path):
    save(slight, tmp_path / "n.pt")
    given = ("--weights", tmp_path / "n.pt", "--data", shapes, "--imgsz", 64, "--project", tmp_path)
    flags = ("--sparsity", 0.5, "--criterion", "largest", "--save", tmp_path / "p.pt", "--device", "cpu")
    code, out, err = run_script(val, *given, *flags)
    assert code == 0, err
    assert "Pruning (largest, 0.5)" in out
    assert count_sparsity(load(tmp_path / "p.pt")).conv == pytest.approx(0.5, abs=0.01)


def test_finetune_takes_every_criterion_of_the_table(registered, run_script, few_layers, shapes, tmp_path):
    save(few_layers(), tmp_path / "n.pt")
    shapes.write_text(shapes.read_text() + "train: images\n")
    given = ("--weights", tmp_path / "n.pt", "--data", shapes, "--imgsz", 64, "--project", tmp_path / "r")
    flags = ("--sparsity", 0.5, "--criterion", "largest", "--epochs", 1, "--device", "cpu", "--workers", 0)
    code, _, err = run_script(finetune, *given, *flags)
    assert code == 0, err
    trained = load(tmp_path / "r" / "train" / "last.pt")
    assert count_sparsity(trained).conv == pytest.approx(0.5, abs=0.01)
    before, after = load(tmp_path / "n.pt").model[1].conv.weight, trained.model[1].conv.weight
    gone = after == 0
    assert before[gone].abs().min() >= 0.9 * before[~gone].abs().max(), "the criterion chose, not magnitude"


def test_a_name_that_is_taken_or_unknown_is_refused():
    with pytest.raises(InputError, match="criterion 'l1' is registered already"):
        CRITERIA.register("l1", Largest)
    with pytest.raises(InputError, match="criterion is 'largest'; one of l1, obs is expected"):
        Method("largest")
    with pytest.raises(InputError, match="method is a float; a Method, a criterion object"):
        Pruner(nn.Sequential(nn.Conv2d(1, 1, 1))).prune(0.5, 0.5)


class Doubled(Engine):
    """Runs a network in float64."""

    name = "doubled"
    title = "float64"
    package = "torch"
    memory = 2.4

    def prepare(self, network, device, dtype):
        self.check_device(device, dtype)
        return _DoubledRunner(copy.deepcopy(network).double())


class _DoubledRunner:
    memory_format = torch.contiguous_format

    def __init__(self, network):
        self.network = network

    def __call__(self, images):
        return [raw.float() for raw in self.network(images.double())]

    def settle(self, images):
        pass

    def candidates(self, maps, conf_thres):
        return self.network.candidates(maps, conf_thres)


@pytest.fixture
def doubled():
    """The engine in the table."""
    ENGINES.register(Doubled.name, Doubled)
    yield
    ENGINES.unregister(Doubled.name)


def test_a_registered_engine_validates_and_sweeps(doubled, slight, shapes):
    plain = validate(slight, shapes, QUICK).metrics
    ours = validate(slight, shapes, ValidationSettings(imgsz=64, batch_size=2, engine="doubled")).metrics
    assert ours.engine == "doubled"
    assert pytest.approx(plain.AP, abs=1e-3) == ours.AP
    engines = ("torch", "doubled")
    frame = sweep(slight, shapes, [0.5], engines=engines, settings=QUICK, batch_sizes=(1,), bootstrap=0)
    assert frame.engine.tolist() == ["torch", "torch", "doubled", "doubled"]
    assert (frame.latency_ms_b1 > 0).all()


def test_an_engine_says_which_devices_it_has(doubled):
    with pytest.raises(InputError, match="`engine` doubled computes in float32 on the CPU"):
        ValidationSettings(engine="doubled", half=True)


def write_arrays(network: Network, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(
            file, names=np.array(network.names), **{k: v.numpy() for k, v in network.state_dict().items()}
        )


@pytest.fixture
def arrays(slight):
    """A form of numpy's arrays, for networks of one architecture."""
    architecture = current_architecture(slight)

    def read(path: Path) -> Network:
        with np.load(path) as file:
            names = tuple(str(name) for name in file["names"])
            weights = {name: torch.from_numpy(file[name]) for name in file.files if name != "names"}
        return build(architecture, names, weights)

    FORMS.register(".npz", SavedForm(read, write_arrays))
    yield
    FORMS.unregister(".npz")


def test_a_registered_form_is_written_and_read_by_every_command(arrays, run_script, slight, shapes, tmp_path):
    save(slight, tmp_path / "a.npz")
    back = load(tmp_path / "a.npz")
    assert back.names == slight.names
    for name, tensor in round_to_half(copy.deepcopy(slight)).state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor)
    given = ("--weights", tmp_path / "a.npz", "--data", shapes, "--imgsz", 64, "--project", tmp_path)
    code, out, err = run_script(
        val, *given, "--sparsity", 0.5, "--save", tmp_path / "b.npz", "--device", "cpu"
    )
    assert code == 0, err
    assert f"Saved {tmp_path / 'b.npz'}" in out
    assert count_sparsity(load(tmp_path / "b.npz")).conv == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("table", [COUNTING, LESSONS, WRITERS])
def test_every_dialect_is_in_every_table(table):
    assert (
        table.keys()
        == DIALECTS.keys()
        == {dialect.key for family in FAMILIES.values() for dialect in family.dialects}
    )
