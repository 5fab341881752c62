"""Label files, good and bad."""

from pathlib import Path

import numpy as np
import pytest

from sparsity.data.annotations import Labels
from sparsity.data.labels import YOLOV5, YOLOV8, LabelTolerance, label_path, read_labels

BOX = [0.5, 0.5, 0.2, 0.4]


def read(tmp_path: Path, content: str | bytes, nc: int | None = 3) -> Labels:
    file = tmp_path / "a.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(file, nc)


@pytest.mark.parametrize(
    ("content", "classes", "boxes"),
    [
        pytest.param("", [], [], id="empty"),
        pytest.param("\n  \n\t\n", [], [], id="blank lines only"),
        pytest.param("0 0.5 0.5 0.2 0.4\n", [0], [BOX], id="one box"),
        pytest.param("2 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4", [2, 0], [BOX, BOX], id="order kept, no newline"),
        pytest.param("0 0.5 0.5 0.2 0.4\r\n1 0.5 0.5 0.2 0.4\r\n", [0, 1], [BOX, BOX], id="crlf"),
        pytest.param("\n0 0.5 0.5 0.2 0.4\n\n1 0.5 0.5 0.2 0.4\n\n", [0, 1], [BOX, BOX], id="blank lines"),
        pytest.param(" 1\t0.5  0.5 0.2 0.4 \n", [1], [BOX], id="tabs and spaces"),
        pytest.param("1.0 5e-1 .5 0.2 0.4\n", [1], [BOX], id="class as a float"),
        pytest.param("2 0 1 0 1\n", [2], [[0, 1, 0, 1]], id="the limits"),
        pytest.param("1 0.4 0.3 0.6 0.3 0.6 0.7\n", [1], [BOX], id="triangle"),
        pytest.param("1 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7\n", [1], [BOX], id="polygon"),
        pytest.param(
            "0 0.5 0.5 0.2 0.4\n1 0.4 0.3 0.6 0.3 0.6 0.7\n", [0, 1], [BOX, BOX], id="box and polygon"
        ),
        pytest.param(
            "1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n", [1, 0], [BOX, BOX], id="duplicate"
        ),
        pytest.param("1 0.5 0.5 0.2 0.4\n1 0.50 0.5 0.20 0.4\n", [1], [BOX], id="duplicate spelt otherwise"),
    ],
)
def test_readable(tmp_path, content, classes, boxes):
    labels = read(tmp_path, content)
    assert (labels.classes.dtype, labels.boxes_cxcywhn.dtype) == (np.int64, np.float32)
    assert labels.classes.tolist() == classes
    np.testing.assert_allclose(labels.boxes_cxcywhn, np.reshape(boxes, (-1, 4)), atol=1e-6)
    assert len(labels) == len(classes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("0 0.5 0.5 0.2", "4 values; 5 are expected", id="four columns"),
        pytest.param("0 0.5 0.5 0.2 0.4 0.9", "6 values; 5 are expected", id="six columns"),
        pytest.param("0 .1 .1 .2 .1 .2 .2 .1", "8 values; 5 are expected", id="polygon with half a point"),
        pytest.param("0", "1 values; 5 are expected", id="class only"),
        pytest.param("-1 0.5 0.5 0.2 0.4", "class -1; 0 to 2 is expected", id="negative class"),
        pytest.param("3 0.5 0.5 0.2 0.4", "class 3; 0 to 2 is expected", id="class too high"),
        pytest.param("1.5 0.5 0.5 0.2 0.4", "class 1.5; 0 to 2 is expected", id="class no whole number"),
        pytest.param("nan 0.5 0.5 0.2 0.4", "class nan", id="class nan"),
        pytest.param("inf 0.5 0.5 0.2 0.4", "class inf", id="class infinite"),
        pytest.param("0 nan 0.5 0.2 0.4", "outside 0 to 1", id="nan"),
        pytest.param("0 0.5 0.5 0.2 inf", "outside 0 to 1", id="infinite"),
        pytest.param("0 1.01 0.5 0.2 0.4", "outside 0 to 1", id="over 1"),
        pytest.param("0 0.5 -0.01 0.2 0.4", "outside 0 to 1", id="under 0"),
        pytest.param("0 250 250 20 40", "outside 0 to 1", id="pixels"),
        pytest.param("0 0.4 0.3 1.6 0.3 0.6 0.7", "outside 0 to 1", id="polygon over 1"),
        pytest.param("cat 0.5 0.5 0.2 0.4", "'cat'", id="class by name"),
        pytest.param("0 0,5 0.5 0.2 0.4", "'0,5'", id="decimal comma"),
    ],
)
def test_corrupt_names_the_line(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, f"0 0.5 0.5 0.2 0.4\n\n{line}\n")
    assert str(caught.value).startswith("line 3: ")


@pytest.mark.parametrize(
    ("line", "yolov5", "yolov8"),
    [
        pytest.param("0 0.5 0.5 1.0000000000000002 0.9", True, True, id="1 in float32"),
        pytest.param("0 0.5 0.5 1.0000001 0.9", False, True, id="the next float32 above 1"),
        pytest.param("0 0.5 0.5 -1e-46 0.9", True, True, id="-0 in float32"),
        pytest.param("0 -1e-45 0.5 0.2 0.9", False, True, id="the first float32 below 0"),
        pytest.param("0 0.5 0.5 1.0004374 0.9", False, True, id="Label Studio's"),
        pytest.param("0 1.01 -0.01 0.2 0.9", False, True, id="one per cent"),
        pytest.param("0 1.0100001 0.5 0.2 0.9", False, False, id="over one per cent"),
        pytest.param("0 0.5 -0.010001 0.2 0.9", False, False, id="under one per cent"),
        pytest.param("0 1e300 0.5 0.2 0.9", False, False, id="beyond float32"),
        pytest.param("0 -0.05 0.3 0.6 0.3 0.6 0.7", True, True, id="a polygon is judged by its box"),
        pytest.param("0 nan 0.3 0.6 0.3 0.6 0.7", False, False, id="a polygon with nan"),
    ],
)
def test_each_familys_tolerance(tmp_path, line, yolov5, yolov8):
    for tolerance, readable in ((YOLOV5, yolov5), (YOLOV8, yolov8)):
        file = tmp_path / "a.txt"
        file.write_text(line)
        if readable:
            assert len(read_labels(file, 1, tolerance)) == 1
        else:
            with pytest.raises(ValueError, match=f"line 1: a coordinate is outside {tolerance}; normalised"):
                read_labels(file, 1, tolerance)


def test_the_default_tolerance_is_0_to_1():
    assert LabelTolerance() == YOLOV5
    assert (str(YOLOV5), str(YOLOV8)) == ("0 to 1", "-0.01 to 1.01")


def test_any_class_where_their_number_is_unknown(tmp_path):
    assert read(tmp_path, "79 0.5 0.5 0.2 0.4", nc=None).classes.tolist() == [79]
    with pytest.raises(ValueError, match="class 1e30; a whole number is expected"):
        read(tmp_path, "1e30 0.5 0.5 0.2 0.4", nc=None)
    with pytest.raises(ValueError, match="class -1; a whole number is expected"):
        read(tmp_path, "-1 0.5 0.5 0.2 0.4", nc=None)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"0 0.5 0.5 0.2 0.4\n\xff\xfe", id="not UTF-8"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x10JFIF", id="an image"),
        pytest.param("0 0.5 0.5 0.2 0.4\n".encode("utf-16"), id="UTF-16"),
    ],
)
def test_no_text(tmp_path, content):
    with pytest.raises(ValueError, match="can't decode"):
        read(tmp_path, content)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_labels(tmp_path / "a.txt", 3)


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        pytest.param("/d/images/a.jpg", "/d/labels/a.txt", id="plain"),
        pytest.param("/d/images/val/a.jpg", "/d/labels/val/a.txt", id="split below"),
        pytest.param("/d/val/images/a.jpg", "/d/val/labels/a.txt", id="split above"),
        pytest.param("/images/x/images/a.jpg", "/images/x/labels/a.txt", id="two: the last"),
        pytest.param("/d/images/images/a.jpg", "/d/images/labels/a.txt", id="two in a row: the last"),
        pytest.param("/d/pictures/a.jpg", "/d/pictures/a.txt", id="none: beside the image"),
        pytest.param("/d/my_images/a.jpg", "/d/my_images/a.txt", id="part of a name is no folder"),
        pytest.param("/d/images/images.jpg", "/d/labels/images.txt", id="the file is no folder"),
        pytest.param("/d/images/a.b.PNG", "/d/labels/a.b.txt", id="dots in the name"),
        pytest.param("images/a.jpg", "labels/a.txt", id="relative"),
    ],
)
def test_label_path(image, labels):
    assert label_path(Path(image)) == Path(labels)
