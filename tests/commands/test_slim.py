"""slim.py as its user runs it: what it says, writes and refuses."""

import json
from pathlib import Path

import cv2
import pandas as pd
import pytest
import yaml
from torch import nn

from sparsity.commands import finetune, slim
from sparsity.commands import val as val_sparse
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.formats.stand_ins import saved, stand_in
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import fuse


@pytest.fixture
def weights(few_layers, tmp_path) -> Path:
    network = few_layers().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.1, 1.5)
    save(network, tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


@pytest.fixture
def data(shapes) -> Path:
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    return shapes


@pytest.fixture
def run(tmp_path, run_script):
    def call(*flags: object) -> tuple[int, str, str]:
        return run_script(slim, "--project", tmp_path / "results", "--device", "cpu", "--imgsz", 64, *flags)

    return call


def test_sparse_training_slimming_and_training_on(run, run_script, weights, data, tmp_path):
    common = ("--project", tmp_path / "results", "--device", "cpu", "--imgsz", 64, "--data", data)
    training = (*common, "--batch-size", 2, "--nominal-batch", 2, "--workers", 0, "--epochs", 1)
    assert run_script(finetune, "--weights", weights, *training, "--sparse-train", 0.01)[0] == 0
    last = tmp_path / "results" / "train" / "last.pt"
    extra = tmp_path / "slimmed.safetensors"
    code, out, err = run(
        "--weights", last, "--percent", 0.6, "--data", data, "--round-to", 8, "--save", extra
    )
    assert code == 0, err
    folder = tmp_path / "results" / "slim"
    assert {path.name for path in folder.iterdir()} == {"slimmed.pt", "slim.csv", "slim.json", "slim.png"}
    for word in ("parameters", "GFLOPs", ".pt, MB", "AP50", "Largest cut that empties no layer"):
        assert word in out
    rows, slimmed = pd.read_csv(folder / "slim.csv"), load(folder / "slimmed.pt", fused=False)
    assert rows.after.tolist() == [conv.out_channels for _, conv in convolutions(slimmed)]
    assert (rows.after < rows.before).any()
    assert any(isinstance(module, nn.BatchNorm2d) for module in slimmed.modules())
    said = json.loads((folder / "slim.json").read_text())
    assert said["after"]["parameters"] == sum(p.numel() for p in slimmed.parameters())
    assert said["after"]["AP"] >= 0
    assert said["imgsz"] == 64
    assert said["after"]["gflops"] < said["before"]["gflops"]
    assert abs(said["after"]["size_pt_mb"] * 1e6 - (folder / "slimmed.pt").stat().st_size) < 2000
    assert min(cv2.imread(str(folder / "slim.png")).shape[:2]) > 300
    assert extra.exists()

    code, _, err = run_script(finetune, "--weights", folder / "slimmed.pt", *training)
    assert code == 0, err
    tuned = load(tmp_path / "results" / "train2" / "last.pt", fused=False)
    assert tuned.architecture == slimmed.architecture
    code, _, err = run_script(val_sparse, "--weights", folder / "slimmed.pt", *common, "--sparsity", 0.3)
    assert code == 0, err
    assert json.loads((tmp_path / "results" / "exp" / "metrics.json").read_text())["parameters"] > 0


def test_without_data_nothing_is_validated(run, weights, tmp_path):
    code, out, err = run("--weights", weights, "--percent", 0.99, "--tied", "--name", "mine")
    assert code == 0, err
    assert "AP50" not in out
    assert "WARNING: more than that is requested; each layer keeps its best channels, at least 8" in out
    rows = pd.read_csv(tmp_path / "results" / "mine" / "slim.csv")
    assert rows.after.min() == 8
    assert json.loads((tmp_path / "results" / "mine" / "slim.json").read_text())["after"]["AP"] == -1


def test_the_exported_form_has_no_norms(run, weights, tmp_path):
    pytest.importorskip("onnx")
    code, _, err = run("--weights", weights, "--percent", 0.5, "--save", tmp_path / "slimmed.onnx")
    assert code == 0, err
    assert (tmp_path / "slimmed.onnx").stat().st_size > 50_000


BAD = {
    "no percent": ([], "--percent"),
    "percent": (["--percent", "1"], "--percent is 1.0; a fraction from 0 to below 1 is expected"),
    "no number": (["--percent", "most"], "--percent: invalid float value: 'most'"),
    "by": (["--percent", "0.5", "--by", "taylor"], "--by is 'taylor'; bn or l1 is expected"),
    "least": (["--percent", "0.5", "--min-channels", "0"], "--min-channels is 0"),
    "multiple": (["--percent", "0.5", "--round-to", "0"], "--round-to is 0"),
    "form": (["--percent", "0.5", "--save", "x.txt"], "x.txt: a file that ends in .pt"),
    "weights": (["--percent", "0.5", "--weights", "no.pt"], "no.pt: no such file"),
    "fused": (
        ["--percent", "0.5", "--weights", "F"],
        "(last.pt and best.pt of finetune.py have batch norms), or --by l1",
    ),
    "unsupported family": (["--percent", "0.5", "--weights", "T"], "YOLOv10"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, weights, tmp_path, case):
    save(fuse(load(weights, fused=False)), tmp_path / "fused.pt")
    (tmp_path / "third.pt").write_bytes(saved({"model": stand_in("ultralytics.nn.modules.block", "SCDown")}))
    flags, words = BAD[case]
    flags = [{"F": tmp_path / "fused.pt", "T": tmp_path / "third.pt"}.get(flag, flag) for flag in flags]
    code, _, err = run("--weights", weights, *flags)
    assert words in err
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
