"""The twelve figures are pycocotools', whatever short way is taken."""

import pytest

from sparsity.evaluation.coco import CocoFigures, evaluate, format_figures
from sparsity.evaluation.results import Results


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


def test_dicts_and_arrays_give_the_same(scene):
    content, results = scene(3)
    ids = {"image_ids": list(range(1, 13)), "category_ids": [5, 1]}
    assert evaluate(content, results, **ids) == evaluate(content, Results.of_rows(results), **ids)


def test_a_result_of_another_image_is_refused(scene):
    content, results = scene(0)
    others = content | {"images": content["images"][1:]}
    with pytest.raises(ValueError, match="images that the annotations do not have"):
        evaluate(others, results, image_ids=[2, 3], category_ids=[1])


def test_twelve_lines():
    lines = format_figures(CocoFigures(*(i / 100 for i in range(12)))).splitlines()
    assert len(lines) == 12
    assert lines[0].endswith("IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.000")
    assert lines[11].endswith("IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.110")
