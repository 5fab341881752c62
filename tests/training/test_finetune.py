"""finetune() does what the command does: it prunes, trains, writes files, and goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from sparsity import (
    InputError,
    PriceCurve,
    TrainingSettings,
    ValidationSettings,
    count_sparsity,
    finetune,
    layer_sparsity,
    load,
    save,
)
from sparsity.pruning.layers import convolutions
from sparsity.training.preparation import Material, make_run

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
SETTINGS = TrainingSettings(
    amount=0.5, criterion="l1", epochs=1, batch_size=2, nominal_batch=2, imgsz=64, workers=0, lr0=0.001
)


@pytest.fixture
def weights(few_layers, tmp_path) -> Path:
    save(few_layers(), tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


def test_it_trains_as_a_run_does(weights, data, tmp_path):
    lines: list[str] = []
    folder = tmp_path / "new" / "run"
    frame = finetune(weights, data, SETTINGS, folder=folder, validation=VALIDATION, say=lines.append)
    assert frame["epoch"].tolist() == [1]
    assert frame["sparsity_conv"].iloc[0] == pytest.approx(0.5, abs=0.001)
    assert "before training" in lines[0]
    assert pd.read_csv(folder / "epochs.csv")["box"].tolist() == pytest.approx(frame["box"].tolist())
    other = tmp_path / "other"
    other.mkdir()
    make_run(Material(weights, data=data), SETTINGS, VALIDATION, other).run()
    ours, theirs = (load(place / "last.pt") for place in (folder, other))
    assert count_sparsity(ours).conv_zeros == count_sparsity(theirs).conv_zeros
    for one, same in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, same)


def test_a_folder_with_a_training_is_resumed_only_if_asked(weights, data, tmp_path):
    folder = tmp_path / "run"
    first = finetune(weights, data, SETTINGS, folder=folder, validation=VALIDATION)
    with pytest.raises(InputError, match="holds a training; set `resume`"):
        finetune(weights, data, SETTINGS, folder=folder, validation=VALIDATION)
    again = finetune(weights, data, SETTINGS, folder=folder, validation=VALIDATION, resume=True)
    assert again["seconds"].tolist() == first["seconds"].tolist()
    with pytest.raises(InputError, match="other settings: epochs was 1, now is 2"):
        finetune(
            weights, data, replace(SETTINGS, epochs=2), folder=folder, validation=VALIDATION, resume=True
        )


def test_the_head_is_the_one_that_is_validated(few_layers, data, tmp_path):
    save(few_layers(family="yolo26"), tmp_path / "n.safetensors")
    folder = tmp_path / "run"
    finetune(tmp_path / "n.safetensors", data, SETTINGS, folder=folder, validation=VALIDATION, head="one2one")
    assert load(folder / "last.pt").head.branch == "one2one"
    assert json.loads((folder / "training.json").read_text())["settings"]["head"] == "one2one"


def test_a_share_of_time_is_taken_by_the_given_curves(weights, data, tmp_path):
    asked = []

    def times(network, imgsz):
        asked.append(imgsz)
        free, dear = PriceCurve((0, 1), (0.0, 1e-9)), PriceCurve((0, 1), (0.0, 1.0))
        return {name: dear if name == "model.0.conv" else free for name, _ in convolutions(network)}

    by_time = replace(SETTINGS, scope="global", budget="latency")
    with pytest.raises(InputError, match="as `price_curves`"):
        finetune(weights, data, by_time, folder=tmp_path / "none", validation=VALIDATION)
    folder = tmp_path / "run"
    finetune(weights, data, by_time, folder=folder, validation=VALIDATION, price_curves=times)
    first = layer_sparsity(load(folder / "last.pt"))[0]
    assert (asked, first.name) == ([64], "model.0.conv")
    assert first.sparsity == pytest.approx(0.5, abs=0.01), "it takes all the time"


def test_a_network_for_a_path_is_refused(weights, data, tmp_path):
    with pytest.raises(InputError, match="`weights` is of type Network; a path is expected"):
        finetune(load(weights), data, SETTINGS, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
