"""COCO annotations: read, checked, and derived from labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.data.annotations import NO_LABELS, Annotations, Labels, derive_annotations, read_annotations
from sparsity.evaluation.coco import evaluate, predictions


def coco(**changes) -> dict:
    """Two images, two categories, one box of 20 x 40 around (30, 40) in the first, of 100 x 200."""
    box = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "bbox": [20, 20, 20, 40], "area": 800}
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 200},
            {"id": 9, "file_name": "sub/b.jpg", "width": 50, "height": 50},
        ],
        "annotations": [box],
        "categories": [{"id": 3, "name": "Cat"}, {"id": 5, "name": " traffic Light"}],
    }
    return content | changes


def boxes(*rows: dict) -> Annotations:
    """coco() with its one box changed as each row says."""
    content = coco()
    content["annotations"] = [{**content["annotations"][0], "id": i, **row} for i, row in enumerate(rows)]
    return Annotations(content)


def labels(*rows: tuple[float, ...]) -> Labels:
    table = np.array(rows, np.float32)
    return Labels(table[:, 0].astype(np.int64), table[:, 1:])


@pytest.mark.parametrize(
    ("change", "classes", "expected"),
    [
        pytest.param({}, [0], [[0.3, 0.2, 0.2, 0.2]], id="normalised by width and height"),
        pytest.param({"category_id": 5}, [1], [[0.3, 0.2, 0.2, 0.2]], id="the second category"),
        pytest.param({"iscrowd": 1}, [], [], id="a crowd"),
        pytest.param({"category_id": 4}, [], [], id="a category that isn't asked for"),
        pytest.param({"image_id": 8}, [], [], id="an image that isn't there"),
        pytest.param({"bbox": [-10, -20, 60, 40]}, [0], [[0.25, 0.05, 0.5, 0.1]], id="clipped"),
        pytest.param({"bbox": [100, 20, 20, 40]}, [], [], id="beside the image"),
        pytest.param({"bbox": [20, 20, 0, 40]}, [], [], id="no width"),
    ],
)
def test_labels(change, classes, expected):
    found = boxes(change).labels([3, 5])
    assert set(found) == {7, 9}
    assert found[7].classes.tolist() == classes
    np.testing.assert_allclose(found[7].boxes_cxcywhn, np.reshape(expected, (-1, 4)), atol=1e-6)
    assert len(found[9]) == 0


def test_labels_follow_the_order_of_the_categories():
    assert boxes({}).labels([5, 3])[7].classes.tolist() == [1]


def test_labels_without_the_key_iscrowd():
    content = coco()
    del content["annotations"][0]["iscrowd"]
    assert len(Annotations(content).labels([3])[7]) == 1


def test_duplicate_boxes_count_once():
    found = boxes({}, {"category_id": 5}, {}).labels([3, 5])[7]
    assert found.classes.tolist() == [0, 1]


def test_ids_may_be_0():
    annotations = Annotations(
        {
            "images": [{"id": 0, "file_name": "a.jpg", "width": 10, "height": 10}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 1, 5, 5], "area": 25}],
            "categories": [{"id": 0, "name": "cat"}],
        }
    )
    assert annotations.image_ids([Path("a.jpg")]) == [0]
    assert annotations.category_ids(["cat"]) == [0]
    assert annotations.labels([0])[0].classes.tolist() == [0]
    results = predictions(0, np.array([[1, 1, 6, 6]], np.float32), np.array([0.9]), [0])
    figures = evaluate(annotations.content, results, image_ids=[0], category_ids=[0])
    assert pytest.approx(1) == figures.AP


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        pytest.param(["Cat", " traffic Light"], [3, 5], id="as written"),
        pytest.param(["TRAFFIC light", "cat "], [5, 3], id="other case, space and order"),
        pytest.param(["cat"], [3], id="some of them"),
    ],
)
def test_category_ids(names, ids):
    assert Annotations(coco()).category_ids(names) == ids


def test_a_missing_category():
    with pytest.raises(InputError, match=r"x\.json: has no category named 'dog' \(2 of 3 .*'Cat'"):
        Annotations(coco(), Path("x.json")).category_ids(["cat", "dog", "bird"])


def test_image_ids_go_by_the_file_name():
    assert Annotations(coco()).image_ids([Path("/d/b.jpg"), Path("/e/a.jpg")]) == [9, 7]


def test_a_missing_image():
    images = [Path("d/a.jpg"), Path("d/c.jpg"), Path("d/d.jpg")]
    with pytest.raises(InputError, match=r"x\.json: annotates other images: 2 of .* 3 .* first is c\.jpg"):
        Annotations(coco(), Path("x.json")).image_ids(images)


def test_read(tmp_path):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(coco()), encoding="utf-8")
    assert read_annotations(file) == Annotations(coco(), file)
    assert read_annotations(file).all_ids() == [3, 5]


def row(key: str, **changes) -> dict:
    """coco() with the first of its rows changed; None takes a field away."""
    content = coco()
    first = content[key][0] | changes
    content[key][0] = {name: value for name, value in first.items() if value is not None}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "is not JSON", id="empty"),
        pytest.param("{'images': []}", "is not JSON", id="no JSON"),
        pytest.param(json.dumps(coco())[:-20], "is not JSON", id="cut off"),
        pytest.param(b"\xff\xfe\x00\xd8", "is not JSON", id="binary"),
        pytest.param([], "no list 'images'", id="a list"),
        pytest.param("null", "no list 'images'", id="null"),
        pytest.param({"images": [], "annotations": []}, "no list 'categories'", id="no categories"),
        pytest.param(coco(annotations={}), "no list 'annotations'", id="annotations as a dict"),
        pytest.param(coco(images=["a.jpg"]), r"images\[0\] has no 'id'", id="images as names"),
        pytest.param(row("images", width=None), r"images\[0\] has no 'width'", id="no width"),
        pytest.param(row("annotations", bbox=None), r"annotations\[0\] has no 'bbox'", id="no bbox"),
        pytest.param(row("annotations", area=None), r"annotations\[0\] has no 'area'", id="no area"),
        pytest.param(row("categories", name=None), r"categories\[0\] has no 'name'", id="no name"),
        pytest.param(row("annotations", bbox=[1, 2, 3]), "bbox", id="bbox of three"),
        pytest.param(row("annotations", bbox=["1", "2", "3", "4"]), "bbox", id="bbox of words"),
        pytest.param(row("images", width=0), "width", id="an image without width"),
        pytest.param(row("categories", name=3), "name", id="a name that is a number"),
    ],
)
def test_what_is_no_instances_file(tmp_path, content, message):
    file = tmp_path / "instances.json"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message) as caught:
        read_annotations(file).labels(read_annotations(file).category_ids(["cat"]))
    assert str(file) in str(caught.value)


def test_read_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_annotations(tmp_path / "instances.json")


IMAGES = {Path("d/a.jpg"): (200, 100), Path("d/b.jpg"): (64, 64), Path("d/c.jpg"): (100, 333)}
LABELS = {
    Path("d/a.jpg"): labels((1, 0.5, 0.5, 0.25, 0.5), (0, 0.25, 0.25, 0.5, 0.5)),
    Path("d/b.jpg"): NO_LABELS,
    Path("d/c.jpg"): labels((2, 0.3, 0.7, 0.2, 0.1)),
}
NAMES = ("cat", "dog", "bird")


def test_derived_by_hand():
    content = derive_annotations(IMAGES, LABELS, NAMES).content
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert content["categories"] == [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    first = {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [75, 25, 50, 50], "area": 2500}
    assert content["annotations"][0] == first
    assert [row["id"] for row in content["annotations"]] == [1, 2, 3]


def test_derived_and_read_back(tmp_path):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(derive_annotations(IMAGES, LABELS, NAMES).content), encoding="utf-8")
    annotations = read_annotations(file)
    ids = annotations.image_ids(list(IMAGES))
    found = annotations.labels(annotations.category_ids(NAMES))
    for image, image_id in zip(IMAGES, ids, strict=True):
        np.testing.assert_array_equal(found[image_id].classes, LABELS[image].classes)
        np.testing.assert_allclose(found[image_id].boxes_cxcywhn, LABELS[image].boxes_cxcywhn, atol=1e-6)


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        pytest.param(0.0, 1.0, id="detections on the boxes are all right"),
        pytest.param(50.0, 0.0, id="detections beside them are all wrong"),
    ],
)
def test_derived_and_evaluated(shift, expected):
    annotations = derive_annotations(IMAGES, LABELS, NAMES)
    categories = annotations.category_ids(NAMES)
    ids = annotations.image_ids(list(IMAGES))
    results = []
    for (image, (width, height)), image_id in zip(IMAGES.items(), ids, strict=True):
        centre, half = np.hsplit(LABELS[image].boxes_cxcywhn, 2)
        corners = np.hstack((centre - half / 2, centre + half / 2)) * ([width, height] * 2) + shift
        classes = [categories[c] for c in LABELS[image].classes]
        results += predictions(image_id, corners, np.full(len(corners), 0.9), classes)
    figures = evaluate(annotations.content, results, image_ids=ids, category_ids=categories)
    assert expected == pytest.approx(figures.AP)
