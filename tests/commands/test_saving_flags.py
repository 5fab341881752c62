"""--save, --int8, --compact, --engine and python -m sparsity.convert, as their users run them."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from sparsity import ValidationSettings, count_sparsity, load, prune, validate
from sparsity.commands import convert
from sparsity.commands import val as val_sparse
from sparsity.data.dataset import read_dataset
from sparsity.formats import onnx_file
from sparsity.formats.half import round_to_half
from sparsity.formats.saving import save


@pytest.fixture
def weights(shallow, tmp_path):
    save(shallow, tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


@pytest.fixture
def run(tmp_path, run_script, weights, shapes):
    """Run the script on the shallow network's file; gives exit code, stdout, stderr."""

    def call(*flags: object) -> tuple[int, str, str]:
        given = [] if "--weights" in flags else ["--weights", weights]
        places = ["--project", tmp_path / "results", "--data", shapes]
        return run_script(val_sparse, *given, *places, "--imgsz", 64, "--batch-size", 2, *flags)

    return call


def predictions(tmp_path, name: str) -> list[dict]:
    return json.loads((tmp_path / "results" / name / "predictions.json").read_text())


def test_every_saved_form_gives_what_was_validated(run, tmp_path):
    files = [tmp_path / "out" / f"pruned.{form}" for form in ("pt", "safetensors", "onnx")]
    flags = [flag for file in files for flag in ("--save", file)]
    code, out, err = run("--sparsity", 0.5, *flags, "--name", "a")
    assert code == 0, err
    for file in files:
        assert f"Saved {file}: {file.stat().st_size / 1e6:.2f} MB\n" in out
    assert "Sizes: dense .pt 0." in out
    before = predictions(tmp_path, "a")
    assert len(before) > 100
    for file in files[:2]:
        assert run("--weights", file, "--name", file.suffix)[0] == 0
        assert predictions(tmp_path, file.suffix) == before
        assert count_sparsity(load(file)).conv == pytest.approx(0.5, abs=0.01)
    code, out, err = run("--weights", files[2], "--name", "onnx", "--engine", "onnxruntime")
    assert code == 0, err
    metrics = json.loads((tmp_path / "results" / "onnx" / "metrics.json").read_text())
    assert metrics["engine"] == "onnxruntime"
    assert metrics["sparsity_conv"] == count_sparsity(load(files[0])).conv
    assert abs(len(predictions(tmp_path, "onnx")) - len(before)) <= 2
    layers = [(tmp_path / "results" / name / "layers.csv").read_text() for name in ("a", "onnx")]
    assert sorted(layers[0].splitlines()) == sorted(layers[1].splitlines())


def test_an_onnx_of_a_fixed_size_and_an_older_opset_is_written(run, tmp_path):
    file = tmp_path / "fixed.onnx"
    code, _, err = run("--save", file, "--static-imgsz", 64, "--opset", 12)
    assert code == 0, err
    model = onnx.load(file)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
    assert model.opset_import[0].version == 12
    code, _, err = run("--save", tmp_path / "b.onnx", "--opset", 99)
    assert code == 2
    assert "--opset is 99; 12 to 18 is expected" in err


def test_an_int8_file_is_validated_as_what_it_is(run, shapes, tmp_path):
    pytest.importorskip("nncf")
    file = tmp_path / "int8.onnx"
    code, out, err = run("--sparsity", 0.5, "--save", file, "--int8", "--calib", shapes.parent / "images")
    assert code == 0, err
    assert "int8; to validate it: --weights" in out
    code, out, err = run("--weights", file, "--name", "int8")
    assert code == 0, err
    assert "An ONNX file, run by onnxruntime" in out
    int8, exact = (
        json.loads((tmp_path / "results" / name / "metrics.json").read_text()) for name in ("int8", "exp")
    )
    assert predictions(tmp_path, "int8") != predictions(tmp_path, "exp")
    assert len(predictions(tmp_path, "int8")) == pytest.approx(len(predictions(tmp_path, "exp")), rel=0.1)
    assert int8["sparsity_conv"] == pytest.approx(exact["sparsity_conv"], abs=0.02)


def test_files_that_are_there_are_not_written_over(run, weights, tmp_path):
    before, old = weights.read_bytes(), tmp_path / "old.pt"
    old.write_bytes(b"mine")
    for file, words in ((weights, "the very file that is read"), (old, "exists already")):
        code, _, err = run("--sparsity", 0.9, "--save", file)
        assert code == 2
        assert words in err
    assert (weights.read_bytes(), old.read_bytes()) == (before, b"mine")
    code, _, err = run("--sparsity", 0.9, "--save", weights, "--exist-ok")
    assert code == 2, "never the file that is read"
    assert run("--sparsity", 0.9, "--save", old, "--exist-ok")[0] == 0
    assert load(old).names == load(weights).names


def test_what_cannot_be_saved_is_said_before_the_validation(run, tmp_path, monkeypatch):
    monkeypatch.setattr(val_sparse, "validate", lambda *_args, **_more: pytest.fail("validated"))
    for flags, words in (
        (["--save", "/proc/a.pt"], "/proc: cannot be written into"),
        (["--save", tmp_path / "a.onnx", "--int8", "--calib", tmp_path / "missing"], "missing: no such"),
    ):
        code, _, err = run("--sparsity", 0.5, *flags)
        assert code == 2
        assert words in err
        assert err.count("\n") == 1


def test_dead_channels_go_and_what_is_found_stays(run, shallow, tmp_path):
    with torch.no_grad():
        for module in shallow.modules():
            if isinstance(module, torch.nn.Conv2d) and module.out_channels < 24:
                module.weight[:2] = 0
    save(shallow, tmp_path / "dead.pt")
    assert run("--weights", tmp_path / "dead.pt", "--name", "whole")[0] == 0
    code, out, err = run("--weights", tmp_path / "dead.pt", "--compact", "--name", "compact")
    assert code == 0, err
    whole, compact = (
        json.loads((tmp_path / "results" / name / "metrics.json").read_text())
        for name in ("whole", "compact")
    )
    assert (whole["channels_removed"], compact["channels_removed"] > 5) == (0, True)
    assert f"Dead channels... {compact['channels_removed']} of " in out
    assert compact["conv_weights"] < whole["conv_weights"]
    assert compact["AP"] == pytest.approx(whole["AP"], abs=1e-6)
    assert len(predictions(tmp_path, "compact")) == pytest.approx(len(predictions(tmp_path, "whole")), abs=2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--save", "a.pth"], "a.pth: a file that ends in .pt, .safetensors, .onnx", id="suffix"),
        pytest.param(["--int8"], "--int8 quantises .onnx files, and --save names none", id="int8 alone"),
        pytest.param(["--int8", "--save", "a.onnx"], "--calib FOLDER", id="int8 without images"),
        pytest.param(
            ["--engine", "tensorrt"], "'tensorrt'; one of torch, onnxruntime, openvino", id="engine"
        ),
        pytest.param(["--engine", "openvino", "--half"], "leave --half out", id="half"),
        pytest.param(
            ["--weights", "a.onnx", "--engine", "torch"],
            "--engine onnxruntime, openvino or openvino-bf16 runs ONNX files",
            id="onnx by torch",
        ),
        pytest.param(
            ["--weights", "a.onnx", "--engine", "openvino", "--sparsity", "0.5"],
            "an exported network is validated as it is",
            id="onnx cannot be pruned",
        ),
        pytest.param(
            ["--weights", "a.onnx", "--engine", "openvino", "--pattern", "2:4"],
            "an exported network is validated as it is",
            id="onnx has no pattern",
        ),
        pytest.param(
            ["--weights", "a.onnx", "--engine", "openvino", "--save", "b.pt"],
            "an exported network is validated as it is",
            id="onnx cannot be saved anew",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*flags)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()
    assert not list(tmp_path.glob("[ab].*"))


def test_converting_there_and_back(weights, tmp_path, run_script):
    there, back = tmp_path / "a.safetensors", tmp_path / "b.pt"
    code, out, _ = run_script(convert, weights, there)
    assert code == 0
    assert out == f"Saved {there}: {there.stat().st_size / 1e6:.2f} MB\n"
    assert run_script(convert, there, back)[0] == 0
    one, other = load(weights).state_dict(), load(back).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert run_script(convert, there, tmp_path / "c.onnx")[0] == 0
    assert onnx_file.read(tmp_path / "c.onnx").names == load(weights).names


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        pytest.param("dense.pt", "dense.pt", "the very file that is read", id="over itself"),
        pytest.param("dense.pt", "a.bin", "a file that ends in", id="suffix"),
        pytest.param("missing.pt", "a.pt", "no such file", id="missing"),
        pytest.param("x.onnx", "a.pt", "an exported network", id="from onnx"),
    ],
)
def test_what_cannot_be_converted(weights, tmp_path, run_script, source, target, words):
    before = weights.read_bytes()
    code, _, err = run_script(convert, tmp_path / source, tmp_path / target)
    assert code == 2
    assert words in err
    assert [path.name for path in tmp_path.glob("*.*")] == ["dense.pt"]
    assert weights.read_bytes() == before


@pytest.mark.slow
@pytest.mark.assets
def test_the_real_network_at_a_half(assets, tmp_path):
    """Round trips of yolov5n: the same zeros, and what it finds in real images."""
    network = round_to_half(prune(load(assets / "yolov5n.pt"), 0.5, "lamp"))
    dataset = read_dataset(assets / "coco50", network.names)
    dataset = replace(dataset, images=dataset.images[::3])
    settings = ValidationSettings(batch_size=8, device="cpu")
    before = validate(network, dataset, settings)
    for form in ("pt", "safetensors", "onnx"):
        save(network, tmp_path / f"n.{form}")
    for form in ("pt", "safetensors"):
        back = load(tmp_path / f"n.{form}")
        assert all(torch.equal(one, back.state_dict()[name]) for name, one in network.state_dict().items())
        if form == "pt":
            assert validate(back, dataset, settings).predictions == before.predictions
    file = onnx_file.read(tmp_path / "n.onnx")
    assert count_sparsity(file).conv_zeros == before.metrics.conv_zeros == round(0.5 * 1861888)
    done = validate(file, dataset, replace(settings, engine="onnxruntime"))
    assert abs(done.metrics.AP - before.metrics.AP) < 1e-4
    assert len(done.predictions) == len(before.predictions) > 1000
    assert unmatched(before.predictions, done.predictions) == 0


def unmatched(ones: list[dict], others: list[dict]) -> int:
    """Detections of the first that have no partner of the same image and class, a box and score as near."""
    left = Counter()
    rows = defaultdict(list)
    for other in others:
        rows[other["image_id"], other["category_id"]].append((*other["bbox"], other["score"]))
    for one in ones:
        key = one["image_id"], one["category_id"]
        near = np.isclose(np.array(rows[key]), (*one["bbox"], one["score"]), rtol=1e-4, atol=5e-3).all(1)
        if near.any():
            del rows[key][int(near.argmax())]
            rows[key] = rows[key] or [(np.inf,) * 5]
        else:
            left[key] += 1
    return left.total()
