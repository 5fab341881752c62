"""An evaluation in a process of its own answers as one in this process does."""

import json
from dataclasses import fields

import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.evaluation.bootstrap import load
from sparsity.evaluation.coco import Matched, evaluate, evaluate_matched
from sparsity.evaluation.processes import evaluate_files

IDS = {"image_ids": [3, 1, 2], "category_ids": [1, 2, 3]}


@pytest.fixture
def files(scene, tmp_path):
    content, results = scene(0)
    for name, rows in (("annotations.json", content), ("predictions.json", results)):
        (tmp_path / name).write_text(json.dumps(rows))
    return tmp_path / "annotations.json", tmp_path / "predictions.json"


def test_figures(scene, files):
    assert evaluate_files(*files, **IDS) == evaluate(*scene(0), **IDS)


def test_matches_come_in_a_file(scene, files, tmp_path):
    figures = evaluate_files(*files, **IDS, matched=tmp_path / "matched.npz")
    expected, matched = evaluate_matched(*scene(0), **IDS)
    assert figures == expected
    came = load(tmp_path / "matched.npz")
    for field in fields(Matched):
        one, other = getattr(came, field.name), getattr(matched, field.name)
        assert one.dtype == other.dtype, field.name
        np.testing.assert_array_equal(one, other, field.name)


def test_a_failed_evaluation_leaves_no_file_of_matches(files, tmp_path):
    files[1].write_text("[{}]")
    with pytest.raises(RuntimeError, match=r"predictions\.json ended with exit code 1"):
        evaluate_files(*files, **IDS, matched=tmp_path / "matched.npz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["annotations.json", "predictions.json"]


def cut(path):
    np.savez(path, image_ids=np.zeros(1000))
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: None, id="not there"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("text"), id="no .npz"),
        pytest.param(lambda path: np.save(path.open("wb"), np.zeros(3)), id="one array alone"),
        pytest.param(lambda path: np.savez(path, image=np.zeros(3)), id="arrays missing"),
        pytest.param(cut, id="cut short"),
    ],
)
def test_what_is_no_file_of_matches_is_refused_by_name(tmp_path, spoil):
    spoil(tmp_path / "matched.npz")
    with pytest.raises(InputError, match=r"matched\.npz: an \.npz file of matches .* is expected"):
        load(tmp_path / "matched.npz")
