"""Detections as arrays, and their predictions.json."""

import json

import numpy as np
import pytest

from sparsity.evaluation import results
from sparsity.evaluation.results import Results


def some(count: int) -> Results:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 600, (count, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Results.of(
        random.integers(1, 600_000, count),
        random.integers(1, 91, count),
        boxes,
        random.uniform(0, 1, count).astype(np.float32) ** 8,
    )


def assert_same(one: Results, other: Results) -> None:
    for name in ("image_ids", "category_ids", "boxes_xywh", "scores"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, name)


def test_rows_are_rounded_xywh():
    found = Results.of(np.array([7]), np.array([18]), np.array([[1.23456, 2, 11.5, 4]]), np.array([0.123456]))
    row = {"image_id": 7, "category_id": 18, "bbox": [1.235, 2.0, 10.265, 2.0], "score": 0.12346}
    assert found.rows() == [row]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 300])
def test_the_file_is_json_of_the_rows_and_comes_back(tmp_path, monkeypatch, count):
    monkeypatch.setattr(results, "_BLOCK", 2)
    found = some(count)
    text = "".join(found.write_lines())
    assert text == json.dumps(found.rows()) + "\n"
    path = tmp_path / "predictions.json"
    path.write_text(text)
    assert_same(Results.read(path), found)
    assert_same(Results.of_rows(json.loads(text)), found)


def test_saved_arrays_come_back(tmp_path):
    found = some(100)
    found.save(tmp_path / "results.npz")
    assert_same(Results.read(tmp_path / "results.npz"), found)


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        ([0.001, 0.01, 0.1, 1.0], 1.0),
        ([0.999, 639.99, 640.5, 1e6], 1e-05),
        ([12.345, 100.0, 7.07, 70.7], 0.1),
        ([-1.5, 2.0, 3.0, 4.0], 0.5),
        ([-0.0, 2.0, 3.0, 4.0], 0.5),
        ([1.0, 2.0, 3.0, 4.0], -0.0),
        ([1e7, 2.0, 3.0, 4.0], 0.5),
        ([0.12345, 2.0, 3.0, 4.0], 0.5),
        ([1.0, 2.0, 3.0, 4.0], 0.123456789),
        ([1.0, 2.0, 3.0, 4.0], 1.5),
        ([1.0, 2.0, 3.0, 4.0], -0.5),
    ],
)
def test_every_number_is_written_as_json_writes_it(box, score):
    row = {"image_id": 1, "category_id": 90, "bbox": box, "score": score}
    assert "".join(Results.of_rows([row]).write_lines()) == json.dumps([row]) + "\n"


@pytest.mark.parametrize(("box", "score"), [([float("nan")] * 4, 0.5), ([1.0] * 4, float("inf"))])
def test_a_number_that_is_not_finite_is_refused(box, score):
    row = {"image_id": 1, "category_id": 90, "bbox": box, "score": score}
    with pytest.raises(ValueError, match="not JSON compliant"):
        list(Results.of_rows([row]).write_lines())


def test_numbers_of_all_decimals_are_written_as_json_writes_them():
    values = np.arange(0, 400_000, 7)
    boxes = np.stack([values / 1000, values[::-1] / 1000, values * 2 / 1000, values * 0.0], 1)
    found = Results(
        np.ones(len(values), np.int64), np.ones(len(values), np.int64), boxes, values % 100_001 / 1e5
    )
    assert "".join(found.write_lines()) == json.dumps(found.rows()) + "\n"


def test_a_file_of_another_layout_is_read_too(tmp_path):
    found = some(20)
    path = tmp_path / "predictions.json"
    for text in (
        json.dumps(found.rows(), indent=1),
        json.dumps([{**row, "more": "text, [1, 2]"} for row in found.rows()]),
        json.dumps([dict(reversed(row.items())) for row in found.rows()]),
    ):
        path.write_text(text)
        assert_same(Results.read(path), found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "{}",
        "[{}]",
        '[{"image_id": 1}]',
        '[{"image_id": 1, "category_id": 2, "bbox": [1], "score": 1}]',
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    if text == "{}":
        assert len(Results.read(path)) == 0
        return
    with pytest.raises((ValueError, KeyError, TypeError)):
        Results.read(path)


def test_some_of_the_results():
    found = some(10)
    assert found[found.scores > 0.01].rows() == [row for row in found.rows() if row["score"] > 0.01]
    assert found[2:4].rows() == found.rows()[2:4]
