"""Which layers mind: rows, resuming, files, and what is refused."""

from dataclasses import fields, replace

import pandas as pd
import pytest
import torch
from torch.nn.utils import prune as torch_prune

from sparsity import Validation, ValidationSettings, validate
from sparsity.base.errors import InputError
from sparsity.commands import sensitivity
from sparsity.data import loader
from sparsity.data.dataset import read_dataset
from sparsity.formats.saving import save
from sparsity.report.layer_sensitivity import write_plot
from sparsity.sweeping import layer_sensitivity
from sparsity.sweeping.layer_sensitivity import choose_layers, measure_layers, some_images
from sparsity.yolo.network import Network, fuse

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=0)
HEAD = ["model.6.m.0", "model.6.m.1", "model.6.m.2"]


@pytest.fixture
def network(few_layers) -> Network:
    """Few layers, fused, since each validation takes the longer the more there are."""
    return fuse(few_layers()).requires_grad_(False)


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


def label_with(found: Validation) -> None:
    """Write labels anew: what the network finds in each image, its three surest boxes."""
    for image in found.dataset.images:
        ours = [row for row in found.predictions if row["image_id"] == image.image_id]
        lines = []
        for row in sorted(ours, key=lambda row: -row["score"])[:3]:
            x, y, w, h = row["bbox"]
            box = ((x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height)
            lines.append(" ".join(map(str, (row["category_id"] - 1, *box))))
        (image.path.parents[1] / "labels" / f"{image.path.stem}.txt").write_text("\n".join(lines))


def test_a_row_is_what_validating_the_pruned_copy_gives(network, shapes):
    label_with(validate(network, shapes, VALIDATION))
    rows, dataset = [], read_dataset(shapes, network.names)
    dense = validate(network, dataset, VALIDATION).metrics.AP
    measure_layers(network, dataset, ["model.0.conv"], [0.5], VALIDATION, on_row=rows.append)
    conv = network.get_submodule("model.0.conv")
    torch_prune.remove(torch_prune.l1_unstructured(conv, "weight", 0.5), "weight")
    pruned = validate(network, dataset, VALIDATION).metrics.AP
    (row,) = rows
    assert (row.layer, row.shape, row.weights, row.zeros) == ("model.0.conv", "16x3x6x6", 1728, 864)
    assert (row.AP, row.AP_drop) == (pruned, dense - pruned)
    assert dense > pruned > 0


def test_the_error_is_squared_distance_over_variance():
    dense = [[torch.tensor([0.0, 2.0]), torch.tensor([1.0, 5.0])], [torch.tensor([4.0]), torch.tensor([3.0])]]
    ours = [[torch.tensor([0.0, 2.0]), torch.tensor([1.0, 5.0])], [torch.tensor([7.0]), torch.tensor([3.0])]]
    # First level: a mean square of 9 / 3 over a variance of 4; the second is as it was.
    assert layer_sensitivity._distance(ours, dense) == pytest.approx((3 / 4 + 0) / 2)


@pytest.mark.parametrize(
    ("free", "reads"),
    [
        pytest.param(2**40, 6, id="memory holds them: each is read once"),
        pytest.param(0, 18, id="memory does not: the dense network and each row read them"),
    ],
)
def test_images_are_kept_where_memory_holds_them(network, shapes, monkeypatch, free, reads):
    counted, real = [], loader.read_image
    monkeypatch.setattr(layer_sensitivity, "free_memory", lambda _device: free)
    monkeypatch.setattr(layer_sensitivity, "ERROR_IMAGES", 1)
    monkeypatch.setattr(loader, "read_image", lambda path: counted.append(path) or real(path))
    dataset = read_dataset(shapes, network.names)
    measure_layers(network, dataset, HEAD[:2], [0.9], VALIDATION)
    assert len(counted) == reads + 1  # the raw maps' image


def test_no_sparsity_is_no_change(network, shapes):
    rows = []
    measure_layers(
        network, read_dataset(shapes, network.names), HEAD[:1], [0.0], VALIDATION, on_row=rows.append
    )
    assert (rows[0].zeros, rows[0].AP_drop, rows[0].output_error) == (0, 0, 0)


def test_layers_by_name(network):
    assert choose_layers(network, ["model.6.*"]) == HEAD
    assert len(choose_layers(network, [])) == 13
    with pytest.raises(InputError, match=r"`layers` 'head' matches no Conv2d; a name such as model\.0\.conv"):
        choose_layers(network, ["head"])


@pytest.mark.parametrize(("count", "left"), [(0, 6), (2, 2), (99, 6)])
def test_some_images_are_the_same_each_time(network, shapes, count, left):
    dataset = read_dataset(shapes, network.names)
    first, second = (some_images(dataset, count).images for _ in range(2))
    assert len(first) == left
    assert first == second


def test_annotations_of_other_images_change_no_figure(network, shapes):
    dataset = read_dataset(shapes, network.names)
    some = some_images(dataset, 3)
    assert len(some.annotations.content["annotations"]) == 3
    untouched = replace(dataset, images=some.images)
    ours, theirs = (validate(network, data, VALIDATION).figures for data in (some, untouched))
    assert ours == theirs


def test_a_run_and_going_on_with_it(run, tmp_path):
    flags = ("--layers", "model.6.*", "--amounts", "0.5,0.9", "--val-images", 4)
    code, out, err = run(*flags)
    assert code == 0, err
    folder = tmp_path / "r" / "sensitivity"
    assert {path.name for path in folder.iterdir()} == {
        "sensitivity.csv",
        "sensitivity.png",
        "sensitivity.json",
    }
    assert "6 validations and the dense network's, on 4 images" in out
    frame = pd.read_csv(folder / "sensitivity.csv")
    assert frame.columns.tolist() == [field.name for field in fields(layer_sensitivity.LayerRow)]
    assert list(zip(frame.layer, frame.amount, strict=True)) == [(n, a) for n in HEAD for a in (0.5, 0.9)]
    code, _, err = run(*flags, "--images", 3, "--resume", folder / "sensitivity.csv")
    assert code == 2
    assert "other settings: data was 4 images" in err


def test_a_stopped_run_goes_on_to_the_same_file(run, tmp_path, monkeypatch):
    flags, folder = ("--layers", "model.6.*", "--amounts", "0.29,0.9"), tmp_path / "r" / "sensitivity"
    assert run(*flags)[0] == 0
    whole, real = (folder / "sensitivity.csv").read_bytes(), sensitivity._write

    def stop_after_two(place, rows):
        real(place, rows)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "_write", stop_after_two)
        assert run(*flags, "--exist-ok")[0] == 130
    assert (folder / "sensitivity.csv").read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    assert not (folder / "sensitivity.png").exists(), "an earlier run's plot"
    code, out, err = run(*flags, "--resume", folder)
    assert code == 0, err
    assert "2 of 6 are already finished" in out
    assert (folder / "sensitivity.csv").read_bytes() == whole
    assert (folder / "sensitivity.png").exists()


def test_the_title_is_that_of_other_runs(run, shapes, monkeypatch):
    titles, described = [], []
    monkeypatch.setattr(sensitivity, "write_plot", lambda _path, _frame, title: titles.append(title))
    monkeypatch.setattr(sensitivity, "describe_run", lambda *run: described.append(run) or "n on its images")
    code, _, err = run("--layers", HEAD[0], "--amounts", "0.5", "--val-images", 2)
    assert code == 0, err
    assert [(weights.endswith("n.pt"), data, images) for weights, data, images in described] == [
        (True, str(shapes), 2)
    ]
    assert titles == ["Each layer pruned alone: n on its images"]


def test_a_title_that_is_no_utf8_is_drawn(tmp_path):
    row = {"layer": "model.0.conv", "amount": 0.5, "AP_drop": 0.1, "output_error": 0.0}
    write_plot(tmp_path / "plot.png", pd.DataFrame([row]), "best.pt on caf\udce9")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--layers", "head"), "matches no Conv2d", id="layers"),
        pytest.param(("--amounts", "1.5"), "1.5 is outside", id="amount"),
        pytest.param(("--amounts", "0"), "at least one above 0", id="no amount"),
        pytest.param(("--val-images", -1), "--val-images is -1", id="images"),
        pytest.param(("--resume", "nowhere"), "holds no run to go on with", id="resume"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(run, tmp_path, flags, words):
    code, _, err = run(*flags)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r").exists()
