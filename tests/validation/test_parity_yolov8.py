"""The ultralytics package's own figures for a real YOLOv8 checkpoint on real images, dense and pruned."""

import json

import cv2
import numpy as np
import pytest
import torch

from sparsity import count_sparsity, load, prune
from sparsity.commands import val as val_sparse

pytestmark = pytest.mark.assets

AMOUNTS = {0.0: "dense", 0.3: "0.3"}


@pytest.fixture
def reference(assets):
    folder = assets.parent / "reference"
    if not (folder / "yolov8n_train50.json").is_file():
        pytest.skip("yolov8n_train50.json is not beside the assets")
    return folder


@pytest.fixture(params=AMOUNTS)
def row(request, reference):
    rows = json.loads((reference / "yolov8n_train50.json").read_text())["rows"]
    return next(row for row in rows if row["amount"] == request.param)


@pytest.mark.slow
def test_raw_outputs_are_those_of_the_package(assets, reference, row):
    file = next((assets / "train50" / "images").rglob(row["image"]))
    pixels = cv2.resize(cv2.imread(str(file)), (320, 320), interpolation=cv2.INTER_LINEAR)
    images = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    network = load(assets / "yolov8n_train50.pt")
    network = prune(network, row["amount"]) if row["amount"] else network
    with torch.inference_mode():
        ours = network.head.decode(network(images)).numpy()
    theirs = np.load(reference / f"yolov8n_train50_raw_{AMOUNTS[row['amount']]}.npz")["raw"]
    # Two computations in float32 differ by as much as each does from float64: by 1e-6 of a box's place.
    np.testing.assert_allclose(ours[:, :4], theirs[:, :4], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(ours[:, 4:], theirs[:, 4:], rtol=0, atol=1e-5)
    counted = count_sparsity(network)
    assert (counted.conv_layers, counted.conv_weights, counted.conv_zeros) == (
        *(row["conv_layers"], row["conv_weights"], row["conv_zeros"]),
    )
    assert torch.equal(network.head.dfl.conv.weight.flatten(), torch.arange(16.0))


@pytest.mark.slow
def test_figures_are_those_of_the_package(assets, row, run_script, tmp_path):
    code, out, err = run_script(
        val_sparse,
        *("--weights", assets / "yolov8n_train50.pt", "--data", assets / "train50", "--img", 320),
        *("--sparsity", row["amount"], "--project", tmp_path, "--name", "run", "--device", "cpu"),
    )
    assert code == 0, err
    assert "Counting as YOLOv8 does (docs/validation.md): batch size 16, NMS above IoU 0.7" in out
    ours = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name, key, near in (
        ("mAP50", "mAP50", 0.001),
        ("mAP50_95", "mAP", 0.001),
        ("P", "P", 0.005),
        ("R", "R", 0.005),
    ):
        print(f"{row['amount']}: {name} ours - the package's: {ours[name] - row[key]:+.7f}")  # by pytest -s
        assert ours[name] == pytest.approx(row[key], abs=near), name
    assert (ours["batch_size"], ours["iou_thres"], ours["conv_zeros"]) == (16, 0.7, row["conv_zeros"])
