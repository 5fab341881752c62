"""finetune() does what the command does: it prunes, trains, writes files, and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from sparsity import InputError, TrainingSettings, ValidationSettings, count_sparsity, finetune, load, save
from sparsity.training.preparation import Material, make_run

VALIDATION = ValidationSettings(imgsz=64, device="cpu", workers=1)
SETTINGS = TrainingSettings(
    amount=0.5, criterion="l1", epochs=1, batch_size=2, nominal_batch=2, imgsz=64, workers=0, lr0=0.001
)


@pytest.fixture
def data(shapes) -> Path:
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    return shapes


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


def test_a_network_for_a_path_is_refused(weights, data, tmp_path):
    with pytest.raises(InputError, match="`weights` is of type Network; a path is expected"):
        finetune(load(weights), data, SETTINGS, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
