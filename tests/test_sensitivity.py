"""Which layers mind: rows, resuming, files, and what is refused."""

import pandas as pd
import pytest
import torch

from sparsity import ValidationSettings, sensitivity
from sparsity.data.dataset import read_dataset
from sparsity.errors import InputError
from sparsity.layer_sensitivity import choose_layers, measure_layers, some_images
from sparsity.own_format import save

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=0)
HEAD = ["model.24.m.0", "model.24.m.1", "model.24.m.2"]


@pytest.fixture
def run(run_script, network, shapes, tmp_path):
    """Run the command on the small network; gives exit code, stdout, stderr."""
    save(network, tmp_path / "n.pt")

    def call(*flags: object) -> tuple[int, str, str]:
        given = ["--weights", tmp_path / "n.pt", "--data", shapes, "--imgsz", 64, "--device", "cpu"]
        return run_script(sensitivity, *given, "--workers", 0, "--project", tmp_path / "r", *flags)

    return call


def test_each_layer_is_pruned_alone(network, shapes):
    rows = []
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    dataset = read_dataset(shapes, network.names)
    measure_layers(network, dataset, HEAD[:2], [0.25, 0.9], VALIDATION, on_row=rows.append)
    assert [(row.layer, row.amount) for row in rows] == [(n, a) for n in HEAD[:2] for a in (0.25, 0.9)]
    for row in rows:
        assert row.zeros == round(row.amount * row.weights)
        assert row.output_error > 0
    assert rows[0].output_error < rows[1].output_error
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_no_sparsity_is_no_change(network, shapes):
    rows = []
    measure_layers(
        network, read_dataset(shapes, network.names), HEAD[:1], [0.0], VALIDATION, on_row=rows.append
    )
    assert (rows[0].zeros, rows[0].AP_drop, rows[0].output_error) == (0, 0, 0)


def test_layers_by_name(network):
    assert choose_layers(network, ["model.24.*"]) == HEAD
    assert len(choose_layers(network, [])) == 60
    with pytest.raises(InputError, match=r"--layers 'head' matches no Conv2d; a name such as model\.0\.conv"):
        choose_layers(network, ["head"])


@pytest.mark.parametrize(("count", "left"), [(0, 6), (2, 2), (99, 6)])
def test_some_images_are_the_same_each_time(network, shapes, count, left):
    dataset = read_dataset(shapes, network.names)
    first, second = (some_images(dataset, count).images for _ in range(2))
    assert len(first) == left
    assert first == second


def test_a_run_and_going_on_with_it(run, tmp_path):
    flags = ("--layers", "model.24.*", "--amounts", "0.5,0.9", "--images", 4)
    code, out, err = run(*flags)
    assert code == 0, err
    folder = tmp_path / "r" / "sensitivity"
    assert {path.name for path in folder.iterdir()} == {"sensitivity.csv", "sensitivity.png", "settings.json"}
    assert "6 validations on 4 images" in out
    whole = pd.read_csv(folder / "sensitivity.csv")
    assert len(whole) == 6
    whole.head(2).to_csv(folder / "sensitivity.csv", index=False)
    code, out, err = run(*flags, "--resume", folder)
    assert code == 0, err
    assert "(2 are there already)" in out
    pd.testing.assert_frame_equal(pd.read_csv(folder / "sensitivity.csv"), whole)
    code, _, err = run(*flags, "--images", 3, "--resume", folder)
    assert code == 2
    assert "other settings: data was 4 images" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--layers", "head"), "matches no Conv2d", id="layers"),
        pytest.param(("--amounts", "1.5"), "1.5 is outside", id="amount"),
        pytest.param(("--amounts", "0"), "at least one above 0", id="no amount"),
        pytest.param(("--images", -1), "--images is -1", id="images"),
        pytest.param(("--resume", "nowhere"), "holds no run to go on with", id="resume"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(run, tmp_path, flags, words):
    code, _, err = run(*flags)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r").exists()
