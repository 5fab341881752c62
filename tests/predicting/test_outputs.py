"""The files of a prediction, and pictures side by side."""

from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from sparsity import Detections
from sparsity.base.errors import InputError
from sparsity.predicting.outputs import Outputs, Wanted, as_file_name, picture_path, video_path
from sparsity.predicting.panels import side_by_side
from sparsity.predicting.pictures import Picture
from sparsity.predicting.sources import FileName

PIXELS = np.full((60, 80, 3), 114, np.uint8)
NAME = FileName(PurePath("deep/a.tif"), PurePath("deep/a"))


def found(*names: str) -> Detections:
    boxes = np.array([[10, 20, 40, 50]] * len(names), np.float32).reshape(-1, 4)
    scores, classes = np.full(len(names), 0.5, np.float32), np.arange(len(names))
    return Detections(boxes, scores, classes, names or ("cat",), (80, 60), Picture(pixels=PIXELS))


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_wanted_is_written(tmp_path):
    wanted = Wanted(labels=True, scores=True, crops=True)
    Outputs(tmp_path, wanted, ["n.pt"]).write_picture(NAME, PIXELS, [found("cat", "a/b")])
    assert files(tmp_path) == [
        "crops/a_b/deep/a_2.jpg",
        "crops/cat/deep/a_1.jpg",
        "deep/a.tif.jpg",
        "labels/deep/a.txt",
    ]
    assert (tmp_path / "labels/deep/a.txt").read_text().splitlines()[0] == "0 0.3125 0.583333 0.375 0.5 0.5"
    assert Image.open(tmp_path / "crops/cat/deep/a_1.jpg").size == (30, 30)


def test_nothing_found_gives_a_picture_alone(tmp_path):
    Outputs(tmp_path, Wanted(labels=True, crops=True), ["n.pt"]).write_picture(NAME, PIXELS, [found()])
    assert files(tmp_path) == ["deep/a.tif.jpg"]


def test_frames_have_their_numbers_and_networks_their_folders(tmp_path):
    wanted = Wanted(pictures=False, labels=True)
    outputs = Outputs(tmp_path, wanted, ["n.pt", "p.pt"])
    outputs.write_details(NAME, PIXELS, [found("cat"), found("cat")], frame=12)
    assert files(tmp_path) == ["labels/n.pt/deep/a_12.txt", "labels/p.pt/deep/a_12.txt"]


@pytest.mark.parametrize(("size", "in_a_row"), [((300, 400), True), ((640, 480), True), ((1200, 400), False)])
def test_pictures_are_side_by_side_or_one_above_the_other(size, in_a_row):
    whole = side_by_side([Image.new("RGB", size, colour) for colour in ("red", "blue")], ["n.pt", "p.pt"])
    line = whole.height - size[1] if in_a_row else whole.height // 2 - size[1]
    assert whole.size == ((2 * size[0], size[1] + line) if in_a_row else (size[0], 2 * (size[1] + line)))
    assert 15 <= line <= 40
    assert whole.getpixel((5, line + 5)) == (255, 0, 0)
    assert whole.getpixel((whole.width - 5, whole.height - 5)) == (0, 0, 255)


def test_networks_are_named_above_their_pictures():
    outputs = Outputs(PurePath(), Wanted(), ["n.pt", "p.pt"])
    drawn = np.asarray(outputs.draw(PIXELS, [found("cat"), found()]))
    bar = drawn[:15]
    assert (bar > 200).any(), "text"


@pytest.mark.parametrize(
    ("name", "size", "written"),
    [
        ("a.jpg", (80, 60), "a.jpg"),
        ("a.PNG", (80, 60), "a.PNG"),
        ("a.webp", (80, 60), "a.webp.jpg"),
        ("a.jpg", (70_000, 60), "a.jpg.png"),
        ("a.png", (70_000, 60), "a.png"),
    ],
)
def test_formats_that_hold_the_picture(name, size, written):
    assert str(picture_path(PurePath(name), size)) == written


def test_names_of_videos_and_classes():
    assert [str(video_path(PurePath(name))) for name in ("a.mp4", "a.avi")] == ["a.mp4", "a.avi.mp4"]
    assert [as_file_name(name) for name in ("traffic light", "../x", "..", "Grün")] == [
        "traffic light",
        "_x",
        "_",
        "Grün",
    ]


def test_what_does_not_go_together():
    with pytest.raises(InputError, match="`save_conf` writes into label files, and there are none"):
        Wanted(scores=True)
    with pytest.raises(InputError, match="`line_thickness` is -1"):
        Wanted(line_thickness=-1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(InputError, match="the results cannot be written"):
        Outputs(tmp_path, Wanted(), ["n.pt"]).write_picture(NAME, PIXELS, [found("cat")])
