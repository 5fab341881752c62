"""The twelve figures are pycocotools', whatever short way is taken."""

import numpy as np
import pytest

from sparsity.evaluation.coco import CocoFigures, evaluate, format_figures, predictions


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "category_ids",
    [
        pytest.param([1, 2, 3, 4, 5], id="all classes, one without truth"),
        pytest.param([2, 4], id="some"),
        pytest.param([], id="as one class"),
    ],
)
def test_figures_are_those_of_plain_pycocotools(scene, plainly, seed, category_ids):
    content, results = scene(seed)
    image_ids = list(range(1, 11))
    expected = plainly(content, results, image_ids, category_ids)
    assert evaluate(content, results, image_ids=image_ids, category_ids=category_ids) == expected
    assert expected.AP > 0


def test_results_and_annotations_are_left_as_they_were(scene):
    content, results = scene(0)
    keys = {frozenset(row) for row in results}, {frozenset(row) for row in content["annotations"]}
    evaluate(content, results, image_ids=[1, 2], category_ids=[1])
    assert keys == ({frozenset(r) for r in results}, {frozenset(r) for r in content["annotations"]})


def test_a_true_box_with_id_0_can_be_found():
    box = [10.0, 10.0, 50.0, 50.0]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 100}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": box, "area": 2500}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
    assert pytest.approx(1) == evaluate(content, results, image_ids=[1], category_ids=[1]).AP


def test_no_result_gives_zeros(scene):
    content, _ = scene(0)
    assert evaluate(content, [], image_ids=[1], category_ids=[1]) == CocoFigures(*[0.0] * 12)


def test_predictions_are_rounded_xywh():
    rows = predictions(7, np.array([[1.23456, 2, 11.5, 4]], np.float32), np.array([0.123456]), [18])
    assert rows == [{"image_id": 7, "category_id": 18, "bbox": [1.235, 2.0, 10.265, 2.0], "score": 0.12346}]


def test_twelve_lines():
    lines = format_figures(CocoFigures(*(i / 100 for i in range(12)))).splitlines()
    assert len(lines) == 12
    assert lines[0].endswith("IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.000")
    assert lines[11].endswith("IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.110")
