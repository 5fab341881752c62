"""A data set as a whole: matched with the checkpoint, counted, and what is left out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.data.dataset import Dataset, choose_images, read_dataset, read_images
from sparsity.data.labels import YOLOV8

NAMES = ("cat", "dog")
BOX = "0.5 0.5 0.2 0.4"


def picture(file: Path, height: int = 20, width: int = 40) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((height, width, 3), 90, np.uint8))


def make(root: Path, labels: dict[str, str | None], extra: str = "", names: str = "[cat, dog]") -> Path:
    """A data set of an image for each name, with its label file unless that is None -> the yaml."""
    for name, content in labels.items():
        picture(root / "images" / "val" / f"{name}.png")
        if content is not None:
            file = root / "labels" / "val" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    yaml = root / "data.yaml"
    yaml.write_text(f"val: images/val\nnames: {names}\n{extra}\n", encoding="utf-8")
    return yaml


def annotate(root: Path, names: list[str], boxes: list[tuple[str, int]], file: str = "instances_val") -> Path:
    """An annotation file: ids from 100; a box of 10 x 10 at 0, 0 for each (image, category)."""
    ids = {name: 100 + i for i, name in enumerate(names)}
    rows = [
        {"id": i, "image_id": ids[name], "category_id": category, "bbox": [0, 0, 10, 10], "area": 100}
        for i, (name, category) in enumerate(boxes, 1)
    ]
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "width": 40, "height": 20} for name, i in ids.items()
        ],
        "annotations": rows,
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    }
    path = root / "annotations" / f"{file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def counts(dataset: Dataset) -> tuple[int, int, int, int]:
    scan = dataset.scan
    return scan.found, scan.missing, scan.empty, scan.corrupt


def test_labels_from_files_and_annotations_derived(tmp_path):
    yaml = make(tmp_path, {"b": f"1 {BOX}\n0 {BOX}", "a": f"0 {BOX}", "c": "", "d": None})
    dataset = read_dataset(yaml, NAMES)
    assert [image.path.name for image in dataset.images] == ["a.png", "b.png", "c.png", "d.png"]
    assert [image.image_id for image in dataset.images] == [1, 2, 3, 4]
    assert [image.labels.classes.tolist() for image in dataset.images] == [[0], [1, 0], [], []]
    assert {(image.width, image.height) for image in dataset.images} == {(40, 20)}
    assert counts(dataset) == (3, 1, 1, 0)
    assert (dataset.instances, dataset.names, dataset.category_ids) == (3, NAMES, (1, 2))
    assert dataset.annotations.path is None
    assert len(dataset.annotations.content["annotations"]) == 3


def test_labels_from_files_beside_an_annotation_file(tmp_path):
    yaml = make(tmp_path, {"a": f"1 {BOX}", "b": None})
    file = annotate(tmp_path, ["b", "a"], [("b", 17)])
    dataset = read_dataset(yaml, NAMES)
    assert [image.image_id for image in dataset.images] == [101, 100]
    assert [image.labels.classes.tolist() for image in dataset.images] == [[1], []]
    assert dataset.category_ids == (17, 18)
    assert dataset.annotations.path == file


def test_labels_only_in_the_annotation_file(tmp_path):
    yaml = make(tmp_path, {"a": None, "b": None, "c": None})
    annotate(tmp_path, ["c", "b", "a"], [("a", 18), ("b", 17), ("b", 18)])
    dataset = read_dataset(yaml, NAMES)
    assert [image.labels.classes.tolist() for image in dataset.images] == [[1], [0, 1], []]
    np.testing.assert_allclose(dataset.images[0].labels.boxes_cxcywhn, [[0.125, 0.25, 0.25, 0.5]])
    assert counts(dataset) == (2, 1, 0, 0)
    assert dataset.instances == 3


def test_annotations_by_the_key(tmp_path):
    yaml = make(tmp_path, {"a": None}, extra="annotations: annotations/mine.json")
    file = annotate(tmp_path, ["a"], [("a", 17)], "mine")
    assert read_dataset(yaml, NAMES).annotations.path == file.resolve()


def test_a_folder_takes_the_names_of_the_checkpoint(tmp_path):
    make(tmp_path, {"a": f"1 {BOX}"}).unlink()
    dataset = read_dataset(tmp_path, ["x", "y"])
    assert dataset.names == ("x", "y")
    assert dataset.instances == 1


@pytest.mark.parametrize("names", ["[Cat, ' dog ']", "{1: DOG, 0: cat}"])
def test_names_may_differ_in_case_and_space(tmp_path, names):
    assert read_dataset(make(tmp_path, {"a": f"1 {BOX}"}, names=names), NAMES).names == NAMES


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["cat"], "2 classes, but the checkpoint was trained on 1", id="fewer"),
        pytest.param(["cat", "dog", "bird"], "2 classes, but the .* on 3", id="more"),
        pytest.param(["dog", "cat"], "class 0 is 'cat', but the checkpoint calls it 'dog'", id="other order"),
        pytest.param(
            ["cat", "bird"], "class 1 is 'dog', but the checkpoint calls it 'bird'", id="other name"
        ),
    ],
)
def test_names_that_do_not_match_the_checkpoint(tmp_path, names, message):
    with pytest.raises(InputError, match=rf"data\.yaml: (has )?{message}"):
        read_dataset(make(tmp_path, {"a": f"1 {BOX}"}), names)


def test_ignored_names(tmp_path):
    yaml = make(tmp_path, {"a": f"1 {BOX}"}, names="[feline, canine]")
    with pytest.raises(InputError, match=r"class 0 is 'feline'.* calls it 'cat'; .*`ignore_names`"):
        read_dataset(yaml, NAMES)
    dataset = read_dataset(yaml, NAMES, ignore_names=True)
    assert dataset.names == NAMES
    assert [image.labels.classes.tolist() for image in dataset.images] == [[1]]
    with pytest.raises(InputError, match="2 classes, but the checkpoint was trained on 3"):
        read_dataset(yaml, ["a", "b", "c"], ignore_names=True)


def test_ignored_names_are_those_of_the_annotations(tmp_path):
    yaml = make(tmp_path, {"a": None})
    annotate(tmp_path, ["a"], [("a", 18)])
    dataset = read_dataset(yaml, ["feline", "canine"], ignore_names=True)
    assert (dataset.names, dataset.category_ids) == (("feline", "canine"), (17, 18))
    assert dataset.images[0].labels.classes.tolist() == [1]


def test_a_class_without_a_name(tmp_path):
    yaml = make(tmp_path, {"a": f"1 {BOX}"}, names="{0: cat, 5: dog}")
    with pytest.raises(InputError, match=r"names has no number 1, which the checkpoint calls 'dog'"):
        read_dataset(yaml, NAMES)
    assert read_dataset(yaml, ["cat", "class1"]).instances == 1
    assert read_dataset(yaml, NAMES, ignore_names=True).instances == 1


def test_each_familys_label_tolerance(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}", "b": "0 0.5 0.5 1.0004374 0.9"})
    assert counts(read_dataset(yaml, NAMES)) == (1, 0, 0, 1)
    assert counts(read_dataset(yaml, NAMES, tolerance=YOLOV8)) == (2, 0, 0, 0)


def test_what_is_skipped_is_said(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}"})
    file = annotate(tmp_path, ["a"], [("a", 17)])
    content = json.loads(file.read_text())
    content["annotations"].append({"id": 2, "image_id": 100, "category_id": 17, "bbox": []})
    file.write_text(json.dumps(content))
    said: list[str] = []
    read_dataset(yaml, NAMES, say=said.append)
    assert "1 annotations have no bbox and are skipped, such as annotations[1]" in said.pop()
    (tmp_path / "images" / "val" / "c.gif").touch()
    read_dataset(yaml, NAMES, say=said.append)
    assert "1 images in other formats (.gif) are skipped, such as" in said[0]
    said.clear()
    assert len(read_images(tmp_path, say=said.append)) == 1
    assert "1 images are skipped, such as" in said[0]


def test_a_list_of_another_machines_images(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}"})
    for first in ("/content/drive/images/val/a.png", "C:\\data\\images\\val\\a.png"):
        (tmp_path / "val.txt").write_text(f"{first}\n{first[:-5]}b.png\n", encoding="utf-8")
        yaml.write_text("val: val.txt\nnames: [cat, dog]\n")
        with pytest.raises(InputError, match=r"none of its 2 images exists \(the first is ") as caught:
            read_dataset(yaml, NAMES)
        assert f"(the first is {first})" in str(caught.value).replace("\\\\", "\\")
    (tmp_path / "val.txt").write_text("/content/a.png\nimages\\val\\a.png\n")
    dataset = read_dataset(yaml, NAMES)
    assert counts(dataset) == (1, 0, 0, 1)
    assert "a.png: No such file" in dataset.scan.problems[0]


def test_single_cls(tmp_path):
    yaml = make(tmp_path, {"a": f"1 {BOX}\n0 0.2 0.2 0.1 0.1", "b": f"79 {BOX}"})
    dataset = read_dataset(yaml, ["x", "y", "z"], single_cls=True)
    assert [image.labels.classes.tolist() for image in dataset.images] == [[0, 0], [0]]
    assert dataset.names == ("item",)
    assert len(dataset.category_ids) == 1
    assert {row["category_id"] for row in dataset.annotations.content["annotations"]} == {1}


def test_single_cls_from_an_annotation_file(tmp_path):
    yaml = make(tmp_path, {"a": None})
    annotate(tmp_path, ["a"], [("a", 17), ("a", 18)])
    dataset = read_dataset(yaml, ["x", "y", "z"], single_cls=True)
    assert set(dataset.images[0].labels.classes.tolist()) == {0}
    assert dataset.names == ("item",)
    assert len(dataset.category_ids) == 1


def test_corrupt_images_and_labels_are_counted_named_and_left_out(tmp_path):
    labels = {"a": f"0 {BOX}", "b": "5 0.5 0.5 0.2 0.4", "c": f"0 {BOX}", "d": f"1 {BOX}"}
    yaml = make(tmp_path, labels)
    (tmp_path / "images" / "val" / "c.png").write_bytes(b"text")
    dataset = read_dataset(yaml, NAMES)
    assert [image.path.name for image in dataset.images] == ["a.png", "d.png"]
    assert dataset.scan.corrupt == 2
    label, image = sorted(dataset.scan.problems, key=lambda problem: "c.png" in problem)
    assert "b.txt: line 1: class 5; 0 to 1 is expected" in label
    assert "c.png: is not an image" in image
    assert [entry["file_name"] for entry in dataset.annotations.content["images"]] == ["a.png", "d.png"]


def test_an_image_that_is_corrupt_in_two_ways_counts_once(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}", "b": "nonsense"})
    (tmp_path / "images" / "val" / "b.png").write_bytes(b"text")
    dataset = read_dataset(yaml, NAMES)
    assert len(dataset.images) == 1
    assert dataset.scan.corrupt == 1


def test_a_listed_image_that_is_missing_is_left_out(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}"})
    (tmp_path / "val.txt").write_text("./images/val/a.png\n./images/val/gone.png\n", encoding="utf-8")
    yaml.write_text("val: val.txt\nnames: [cat, dog]\n", encoding="utf-8")
    dataset = read_dataset(yaml, NAMES)
    assert len(dataset.images) == 1
    assert [p.endswith("gone.png: No such file or directory") for p in dataset.scan.problems] == [True]


def test_a_label_file_that_is_not_utf8_is_a_problem(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}", "b": ""})
    (tmp_path / "labels" / "val" / "b.txt").write_bytes(b"\xff\xfe0\x00")
    dataset = read_dataset(yaml, NAMES)
    assert counts(dataset)[3] == 1
    assert "b.txt" in dataset.scan.problems[0]


def no_labels(root: Path) -> Path:
    return make(root, {"a": None, "b": None})


def empty_labels(root: Path) -> Path:
    return make(root, {"a": "", "b": None})


def corrupt_images(root: Path) -> Path:
    yaml = make(root, {"a": f"0 {BOX}", "b": f"0 {BOX}"})
    for name in "ab":
        (root / "images" / "val" / f"{name}.png").write_bytes(b"text")
    return yaml


def corrupt_labels(root: Path) -> Path:
    return make(root, {"a": "x", "b": "y"})


def other_images(root: Path) -> Path:
    yaml = make(root, {"a": f"0 {BOX}", "b": None})
    annotate(root, ["x", "b"], [("x", 17)])
    return yaml


def other_images_and_no_labels(root: Path) -> Path:
    yaml = make(root, {"a": None, "b": None})
    annotate(root, ["x", "b"], [("x", 17)])
    return yaml


def other_categories(root: Path) -> Path:
    yaml = make(root, {"a": f"0 {BOX}"}, names="[cat, bird]")
    annotate(root, ["a"], [("a", 17)])
    return yaml


def no_boxes(root: Path) -> Path:
    yaml = make(root, {"a": None})
    annotate(root, ["a"], [])
    return yaml


@pytest.mark.parametrize(
    ("build", "names", "message"),
    [
        pytest.param(
            no_labels, NAMES, r"no labels: neither label files .*a\.txt.* nor a COCO", id="no labels"
        ),
        pytest.param(empty_labels, NAMES, "none of its 2 images has a labelled box", id="empty labels"),
        pytest.param(
            corrupt_images, NAMES, r"no usable image; .*a\.png: is not an image", id="corrupt images"
        ),
        pytest.param(corrupt_labels, NAMES, r"no usable image; .*a\.txt: line 1", id="corrupt labels"),
        pytest.param(other_images, NAMES, r"1 of .* 2 .* first is a\.png", id="other images"),
        pytest.param(
            other_images_and_no_labels, NAMES, r"1 of .* 2 .* first is a\.png", id="other images, no labels"
        ),
        pytest.param(other_categories, ["cat", "bird"], "no category named 'bird'", id="other categories"),
        pytest.param(no_boxes, NAMES, "none of its 1 images has a labelled box", id="no boxes annotated"),
    ],
)
def test_what_cannot_be_validated_on(tmp_path, build, names, message):
    yaml = build(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read_dataset(yaml, names)
    assert str(tmp_path) in str(caught.value)


def test_a_corrupt_image_need_not_be_annotated(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}", "b": f"0 {BOX}"})
    (tmp_path / "images" / "val" / "b.png").write_bytes(b"text")
    annotate(tmp_path, ["a"], [("a", 17)])
    assert [image.image_id for image in read_dataset(yaml, NAMES).images] == [100]


def test_images_of_one_name_in_two_folders_have_ids_of_their_own(tmp_path):
    for folder in ("x", "y"):
        make(tmp_path / folder, {"a": f"0 {BOX}"})
    yaml = tmp_path / "data.yaml"
    yaml.write_text("val: [x/images, y/images]\nnames: [cat, dog]\n", encoding="utf-8")
    assert [image.image_id for image in read_dataset(yaml, NAMES).images] == [1, 2]


def test_classes_whose_names_differ_in_case_have_ids_of_their_own(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}\n1 0.2 0.2 0.1 0.1"}, names="[Cat, cat]")
    assert read_dataset(yaml, ["Cat", "cat"]).category_ids == (1, 2)


def test_annotations_that_do_not_tell_two_images_apart_are_refused(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder / "images").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "images" / "a.png"), np.zeros((20, 20, 3), np.uint8))
    image = {"id": 1, "file_name": "a.png", "width": 20, "height": 20}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": None}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "d.yaml").write_text("val: [x/images, y/images]\nnames: [cat]\nannotations: a.json\n")
    with pytest.raises(InputError, match=r"several images of the data set are called a\.png"):
        read_dataset(tmp_path / "d.yaml", ["cat"])


def test_hidden_files_are_passed_over(tmp_path):
    (tmp_path / "images" / ".checkpoints").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    for name in ("a.png", "._a.png", ".checkpoints/a.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert len(read_dataset(tmp_path, ["cat"]).images) == 1


def test_the_train_split(tmp_path):
    yaml = make(tmp_path, {"a": f"0 {BOX}"})
    for name in ("x", "y"):
        picture(tmp_path / "images" / "train" / f"{name}.png")
    (tmp_path / "labels" / "train").mkdir()
    (tmp_path / "labels" / "train" / "y.txt").write_text(f"1 {BOX}")
    with pytest.raises(InputError, match="no key 'train'"):
        read_dataset(yaml, NAMES, split="train")
    yaml.write_text(yaml.read_text() + "train: images/train\nannotations: gone.json\n")
    dataset = read_dataset(yaml, NAMES, split="train")
    assert [image.path.name for image in dataset.images] == ["x.png", "y.png"]
    assert [image.labels.classes.tolist() for image in dataset.images] == [[], [1]]
    assert dataset.annotations.path is None


def test_the_train_split_of_a_folder(tmp_path):
    make(tmp_path, {"a": f"0 {BOX}"}).unlink()
    (tmp_path / "images" / "val").rename(tmp_path / "images" / "train")
    (tmp_path / "labels" / "val").rename(tmp_path / "labels" / "train")
    annotate(tmp_path, ["a"], [("a", 17)], "instances_train")
    dataset = read_dataset(tmp_path, NAMES, split="train")
    assert [image.image_id for image in dataset.images] == [100]


@pytest.mark.parametrize("below", ["", "images"])
def test_images_without_labels(tmp_path, below):
    picture(tmp_path / below / "b.png", 30, 50)
    picture(tmp_path / below / "sub" / "c.png")
    picture(tmp_path / below / ".hidden.png")
    (tmp_path / below / "a.png").write_bytes(b"text")
    images = read_images(str(tmp_path))
    assert [(i.path.name, i.image_id, i.width, i.height) for i in images] == [
        ("b.png", 1, 50, 30),
        ("c.png", 2, 40, 20),
    ]
    assert [len(image.labels) for image in images] == [0, 0]


@pytest.mark.parametrize(
    ("files", "folder", "message"),
    [
        pytest.param([], "none", "none: no such folder", id="missing"),
        pytest.param(["a.txt"], "", r"no images \(.*\.png", id="no images"),
        pytest.param(["a.png", "b.png"], "", r"no usable image; .*a\.png: is not an image", id="all corrupt"),
        pytest.param(["a.png"], "a.png", r"a\.png: no such folder; a folder of images", id="a file"),
    ],
)
def test_a_folder_without_usable_images(tmp_path, files, folder, message):
    for name in files:
        (tmp_path / name).write_bytes(b"text")
    with pytest.raises(InputError, match=message):
        read_images(tmp_path / folder)


def test_some_images_of_a_folder(tmp_path):
    for number in range(20):
        picture(tmp_path / f"{number:02}.png")
    images, problems = choose_images(tmp_path, 5, seed=1)
    names = [image.path.name for image in images]
    assert names == sorted(names)
    assert len(set(names)) == 5
    assert problems == ()
    assert choose_images(tmp_path, 5, seed=1)[0] == images
    assert choose_images(tmp_path, 5, seed=2)[0] != images
    (tmp_path / names[0]).write_bytes(b"no image")
    others, problems = choose_images(tmp_path, 5, seed=1)
    assert len(others) == 5, "another one comes in its place"
    assert set(names[1:]) < {image.path.name for image in others}
    assert names[0] in problems[0]
