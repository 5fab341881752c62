"""COCO annotations: read, checked, and derived from labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.data.annotations import NO_LABELS, Annotations, Labels, derive_annotations, read_annotations
from sparsity.evaluation.coco import evaluate
from sparsity.evaluation.results import Results


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
    one = np.zeros(1)
    results = Results.of(one, one, np.array([[1, 1, 6, 6]], np.float32), np.array([0.9]))
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
        pytest.param(row("annotations", area="8"), r"annotations\[0\] has area '8'", id="area as text"),
        pytest.param(
            row("annotations", image_id="a"), r"image_id 'a'; a whole number", id="an id that is text"
        ),
        pytest.param(
            row("annotations", image_id=7.5), r"image_id 7\.5; a whole", id="an id that is a fraction"
        ),
        pytest.param(row("images", id=True), "id True; a whole number", id="an id that is true"),
        pytest.param(row("images", id=2**63), "id 9223372036854775808; a whole", id="an id beyond int64"),
        pytest.param(
            row("images", width=10**400), "width 10+.*; a number of pixels", id="width beyond float"
        ),
        pytest.param(row("annotations", bbox=[0, 0, 1e308, 1e308]), "bbox", id="a bbox beyond any image"),
        pytest.param(row("annotations", bbox=[True, 0, 1, 1]), "bbox", id="a bbox with true"),
        pytest.param(row("annotations", iscrowd=[]), r"iscrowd \[\]; 0 or 1", id="iscrowd as a list"),
        pytest.param("[" * 100_000, "is not JSON", id="nested too deep"),
        pytest.param('{"images": ' + "9" * 5000 + "}", "is not JSON", id="a number of 5000 digits"),
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


def saved(tmp_path: Path, content: dict) -> Annotations:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return read_annotations(file)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(float, id="whole floats"),
        pytest.param(str, id="text"),
        pytest.param("{:012}".format, id="text with zeros in front"),
    ],
)
def test_ids_as_other_tools_write_them(tmp_path, write):
    content = coco()
    for key, names in (
        ("images", ["id"]),
        ("annotations", ["id", "image_id", "category_id"]),
        ("categories", ["id"]),
    ):
        content[key] = [row | {name: write(row[name]) for name in names} for row in content[key]]
    annotations = saved(tmp_path, content)
    assert annotations.content == coco()
    assert annotations.labels(annotations.category_ids(["cat"]))[7].classes.tolist() == [0]


def test_a_missing_area_is_that_of_the_box(tmp_path):
    for area in ({}, {"area": None}):
        content = row("annotations", area=None)
        content["annotations"][0] |= area
        assert saved(tmp_path, content).content["annotations"][0]["area"] == 800


def test_file_names_of_windows(tmp_path):
    content = coco()
    content["images"][0]["file_name"] = "C:\\data\\images\\a.jpg"
    content["images"][1]["file_name"] = "sub\\b.jpg"
    content["images"].append({"id": 11, "file_name": "other\\b.jpg", "width": 50, "height": 50})
    images = [Path("/d/a.jpg"), Path("/d/other/b.jpg"), Path("/d/sub/b.jpg")]
    assert saved(tmp_path, content).image_ids(images) == [7, 11, 9]


@pytest.mark.parametrize("bbox", [[], None])
def test_annotations_without_a_box_are_listed(tmp_path, bbox):
    content = coco()
    content["annotations"].insert(0, {"id": 5, "image_id": 7, "category_id": 3, "bbox": bbox})
    annotations = saved(tmp_path, content)
    assert annotations.content == coco()
    assert annotations.without_box == (0,)


def test_two_categories_of_one_name(tmp_path):
    """The one with boxes counts, in any order; where both have some, neither may be left out."""
    twin = {"id": 1001, "name": "Cat", "supercategory": "animal"}
    box = coco()["annotations"][0]
    for categories in ([*coco()["categories"], twin], [twin, *coco()["categories"]]):
        annotations = saved(tmp_path, coco(categories=categories))
        assert annotations.category_ids(["Cat"]) == annotations.category_ids(["cat"]) == [3]
        assert annotations.labels([3])[7].classes.tolist() == [0]
        rows = [box, box | {"id": 2, "category_id": 1001}]
        both = saved(tmp_path, coco(categories=categories, annotations=rows))
        for name in ("Cat", "cat"):
            with pytest.raises(InputError, match=rf"2 categories are called '{name}' \(ids 3 and 1001\)"):
                both.category_ids([name])
        assert both.category_ids(["traffic light"]) == [5]


@pytest.mark.parametrize(
    ("key", "other", "message"),
    [
        pytest.param(
            "images", {"id": 7, "file_name": "c.jpg"}, "images have the id 7: 'a.jpg' and", id="images"
        ),
        pytest.param(
            "categories", {"id": 3, "name": "dog"}, "categories have the id 3: 'Cat' and", id="names"
        ),
    ],
)
def test_one_id_for_two(tmp_path, key, other, message):
    content = coco()
    content[key].append(content[key][0] | other)
    with pytest.raises(InputError, match=message):
        saved(tmp_path, content)
    content[key][-1] = content[key][0]
    saved(tmp_path, content)


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
        ids_of = np.full(len(corners), image_id)
        results += Results.of(ids_of, np.array(classes), corners, np.full(len(corners), 0.9)).rows()
    figures = evaluate(annotations.content, results, image_ids=ids, category_ids=categories)
    assert expected == pytest.approx(figures.AP)
