"""The forms in which detections are handed on."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sparsity import Detections, InputError
from sparsity.predicting.pictures import Picture

PIXELS = np.full((300, 400, 3), 114, np.uint8)


@pytest.fixture
def found() -> Detections:
    return Detections(
        boxes_xyxy=np.array([[10, 20, 110, 220], [0, 0, 400, 300], [399.7, 5, 400, 9]], np.float32),
        scores=np.array([0.875, 0.5, 0.25], np.float32),
        classes=np.array([1, 0, 1]),
        names=("cat", "dog"),
        size=(400, 300),
        picture=Picture(pixels=PIXELS),
    )


@pytest.fixture
def nothing() -> Detections:
    return Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0),
        np.zeros(0, int),
        ("cat",),
        (400, 300),
        Picture(pixels=PIXELS),
    )


def test_a_table(found, nothing):
    frame = found.to_pandas()
    columns = ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert frame.columns.tolist() == columns
    assert frame.iloc[0].tolist() == [10, 20, 110, 220, 0.875, 1, "dog"]
    assert nothing.to_pandas().columns.tolist() == columns


def test_coco_results(found, nothing):
    rows = found.to_coco(7)
    assert rows[0] == {"image_id": 7, "category_id": 2, "bbox": [10, 20, 100, 200], "score": 0.875}
    assert [row["category_id"] for row in found.to_coco(7, (18, 17))] == [17, 18, 17]
    assert nothing.to_coco(7) == []
    with pytest.raises(InputError, match="`category_ids` has 1 ids; 2 are expected"):
        found.to_coco(7, [1])


def test_label_lines(found, nothing):
    assert found.to_labels().splitlines()[0] == "1 0.15 0.4 0.25 0.666667"
    assert found.to_labels(with_scores=True).splitlines()[1] == "0 0.5 0.5 1 1 0.5"
    assert nothing.to_labels() == ""


def test_words(found, nothing):
    assert (len(found), found.found, found.describe()) == (3, ["dog", "cat", "dog"], "2 dog, 1 cat")
    assert (len(nothing), nothing.describe()) == (0, "nothing")


def test_crops_have_pixels(found):
    shapes = [(name, crop.shape) for name, crop in found.crops(PIXELS)]
    assert shapes == [("dog", (200, 100, 3)), ("cat", (300, 400, 3)), ("dog", (4, 1, 3))]


def test_plots(found, nothing):
    plain = np.asarray(found.plot())
    assert plain.shape == PIXELS.shape
    assert np.array_equal(np.asarray(nothing.plot()), PIXELS)
    bare = np.asarray(found.plot(hide_labels=True))
    names = np.asarray(found.plot(hide_conf=True))
    drawn = [(image != PIXELS).any(2).sum() for image in (bare, names, plain)]
    assert drawn[0] < drawn[1] < drawn[2]


def test_supervision_takes_them(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    theirs = found.to_supervision()
    assert theirs.xyxy is found.boxes_xyxy
    assert theirs.class_id.tolist() == [1, 0, 1]
    assert theirs.data["class_name"].tolist() == ["dog", "cat", "dog"]
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"`to_supervision` needs the package supervision .*pip install"):
        found.to_supervision()
