"""The ultralytics package's own figures for a YOLO11 and a YOLO26, dense and pruned, by each head."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune

from sparsity import ValidationSettings, count_sparsity, keep_head, load, validate
from sparsity.data.dataset import Dataset
from sparsity.pruning.layers import convolutions
from sparsity.validation.inputs import read_data
from sparsity.yolo.heads import held_heads
from sparsity.yolo.network import Network

pytestmark = [pytest.mark.assets, pytest.mark.slow]

SETTINGS = ValidationSettings(imgsz=320, device="cpu")
CASES = [
    *(("yolo11n", "one2many", amount) for amount in (0.0, 0.3)),
    *(("yolo26n", head, amount) for head in ("one2many", "one2one") for amount in (0.0, 0.3)),
]


def reference(assets: Path, name: str, head: str, amount: float) -> dict[str, float]:
    file = assets.parent / "reference" / f"{name}_train50.json"
    if not file.is_file():
        pytest.skip(f"{file.name} is not beside the assets")
    rows = json.loads(file.read_text())["rows"]
    return next(row for row in rows if (row["head"], row["amount"]) == (head, amount))


def opened(assets: Path, name: str, head: str, amount: float) -> Network:
    """The network, fused, with one head. torch itself prunes every Conv2d, as the reference was made."""
    network = load(assets / f"{name}_train50.pt")
    if held_heads(network):
        network = keep_head(network, head)
    for _, conv in convolutions(network):
        if amount:
            prune.remove(prune.l1_unstructured(conv, "weight", amount), "weight")
    return network.requires_grad_(False)


@cache
def data(assets: Path) -> Dataset:
    """The images and labels, which are read once."""
    return read_data(assets / "train50", load(assets / "yolo11n_train50.pt"), SETTINGS)


@pytest.mark.parametrize(("name", "head", "amount"), CASES)
def test_figures_are_those_of_the_package(assets, name: str, head: str, amount: float) -> None:
    theirs = reference(assets, name, head, amount)
    network = opened(assets, name, head, amount)
    counted = count_sparsity(network)
    assert (counted.conv_layers, counted.conv_weights, counted.conv_zeros) == (
        *(theirs["conv_layers"], theirs["conv_weights"], theirs["conv_zeros"]),
    )
    assert sum(conv.groups > 1 for _, conv in convolutions(network)) == theirs["grouped"]
    ours = validate(network, data(assets), SETTINGS).metrics
    for key, near in (("mAP50", 0.001), ("P", 0.005), ("R", 0.005)):
        assert getattr(ours, key) == pytest.approx(theirs[key], abs=near), key
    assert ours.mAP50_95 == pytest.approx(theirs["mAP"], abs=0.001)
    print(f"{name} {head} {amount}: mAP ours - the package's: {ours.mAP50_95 - theirs['mAP']:+.7f}")
    assert ours.head == ("" if name == "yolo11n" else head)


def test_one_forward_pass_runs_one_head(assets) -> None:
    network = load(assets / "yolo26n_train50.pt")
    ran: set[str] = set()
    for name, conv in convolutions(network):
        conv.register_forward_hook(lambda *_, name=name: ran.add(name))
    network(torch.zeros(1, 3, 64, 64))
    assert {name for name, _ in convolutions(network)} - ran == {
        name for name, _ in convolutions(network) if ".one2one_" in name
    }
