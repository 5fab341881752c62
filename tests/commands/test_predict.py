"""predict.py as its user runs it: what it says, writes and refuses."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sparsity import PredictionSettings, load, predict, prune, save
from sparsity.commands import predict as predict_command
from sparsity.commands.table import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def weights(slight, tmp_path) -> Path:
    save(slight, tmp_path / "n.pt")
    return tmp_path / "n.pt"


@pytest.fixture
def images(shapes) -> Path:
    return shapes.parent / "images"


@pytest.fixture
def run(run_script, weights, tmp_path):
    def call(*flags: object) -> tuple[int, str, str]:
        given = [] if "--weights" in flags else ["--weights", weights]
        place = ("--device", "cpu", "--project", tmp_path / "results", "--imgsz", 64)
        return run_script(predict_command, *given, *place, *flags)

    return call


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder(run, weights, images, tmp_path):
    (images / "bad.jpg").write_bytes(b"no image")
    (images / "x.heic").write_bytes(b"")
    code, out, err = run("--source", images, "--save-txt", "--save-conf")
    assert code == 0, err
    folder = tmp_path / "results" / "predict"
    for words in (
        "WARNING: 1 image in other formats skipped, such as",
        f"{images / '0.png'}: 40 x 64, ",
        "bad.jpg: OpenCV cannot decode it; it is damaged, or no image; it is skipped",
        "6 pictures in ",
        " a second, with reading, drawing and writing",
        "frames a second: ",
        "1 file could not be read",
        f"Results saved to {folder}",
    ):
        assert words in out, out
    found = predict(load(weights), images / "0.png", PredictionSettings(imgsz=64, device="cpu"))
    assert len(found) > 0
    assert (folder / "labels" / "0.txt").read_text() == found.to_labels(with_scores=True)
    assert [name for name in files(folder) if name.endswith(".png")] == [f"{i}.png" for i in range(6)]
    assert Image.open(folder / "0.png").size == (200, 320)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_other_engines_find_the_same(run, images, tmp_path, engine):
    pytest.importorskip(engine)
    lines = {}
    for name in ("torch", engine):
        code, out, err = run("--source", images / "0.png", "--nosave", "--engine", name)
        assert code == 0, err
        lines[name] = next(line for line in out.splitlines() if line.startswith(str(images)))
    assert lines[engine] == lines["torch"]
    assert not (tmp_path / "results").exists(), "nothing was asked for"


def test_every_saved_form_is_drawn_side_by_side(run, slight, weights, images, tmp_path):
    pytest.importorskip("onnxruntime")
    save(slight, tmp_path / "n.onnx")
    save(prune(slight, 0.5), tmp_path / "p.safetensors")
    several = f"{weights},{tmp_path / 'p.safetensors'},{tmp_path / 'n.onnx'}"
    code, out, err = run("--weights", several, "--source", images / "1.png", "--side-by-side", "--save-txt")
    assert code == 0, err
    line = next(line for line in out.splitlines() if line.startswith(str(images)))
    assert [line.count(f"{name}: ") for name in ("n.pt", "p.safetensors", "n.onnx")] == [1, 1, 1]
    folder = tmp_path / "results" / "predict"
    ours, exported = ((folder / "labels" / name / "1.txt").read_text() for name in ("n.pt", "n.onnx"))
    assert len(ours.splitlines()) == len(exported.splitlines())
    whole = Image.open(folder / "1.png")
    assert whole.size > (320, 240)


def test_equal_names_stay_apart(run, slight, weights, images, tmp_path):
    (tmp_path / "other").mkdir()
    save(slight, tmp_path / "other" / "n.pt")
    several = f"{weights},{tmp_path / 'other' / 'n.pt'}"
    flags = ("--side-by-side", "--nosave", "--save-txt")
    code, _, err = run("--weights", several, "--source", images / "1.png", *flags)
    assert code == 0, err
    assert len(files(tmp_path / "results" / "predict")) == 2


def test_a_video_and_crops(run, images, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for name in ("1", "3", "5"):
        writer.write(cv2.imread(str(images / f"{name}.png")))
    writer.release()
    code, out, err = run("--source", tmp_path / "a.avi", "--save-crop", "--verbose", "--classes", "cat", "1")
    assert code == 0, err
    assert "3 frames in " in out
    assert f"{tmp_path / 'a.avi'}, frame 3: 64 x 48, " in out
    folder = tmp_path / "results" / "predict"
    assert cv2.VideoCapture(str(folder / "a.avi.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    crops = files(folder / "crops")
    assert {name.split("/")[0] for name in crops} <= {"cat", "dog"}
    assert crops


def test_the_head_of_a_yolo26(run, few_layers, images, tmp_path):
    save(few_layers(family="yolo26"), tmp_path / "n.safetensors")
    given = ("--weights", tmp_path / "n.safetensors", "--source", images / "0.png", "--nosave")
    code, out, err = run(*given, "--head", "one2one")
    assert code == 0, err
    assert "Head: one2one; one2many is dropped" in out


BAD = {
    "no source": ((), "--source is missing; an image"),
    "source missing": (("--source", "nowhere.jpg"), "--source 'nowhere.jpg': no such file or folder"),
    "glob": (("--source", "{t}/*.webp"), "*.webp: matches no image or video"),
    "empty folder": (("--source", "{t}/empty"), "empty: no image or video in this folder"),
    "no image": (("--source", "{t}/bad.jpg"), "bad.jpg: OpenCV cannot decode it"),
    "no images": (("--source", "{t}/bad*"), "none of 3 files can be read, such as"),
    "no video": (("--source", "{t}/bad.mp4"), "bad.mp4: OpenCV cannot open this video"),
    "camera": (("--source", "97"), "--source 97: no camera of this number can be opened"),
    "weights": (("--weights", "no.pt", "--source", "{i}"), "no.pt: no such file"),
    "two weights": (("--weights", "a.pt,b.pt", "--source", "{i}"), "--weights names 2 files; --side-by-side"),
    "one weight": (("--side-by-side", "--source", "{i}"), "--side-by-side needs two or more checkpoints"),
    "class": (("--classes", "cow", "--source", "{i}"), "--classes has 'cow'; a number from 0 to 2"),
    "conf": (("--conf-thres", "2", "--source", "{i}"), "--conf-thres is 2.0"),
    "thickness": (("--line-thickness", "0", "--source", "{i}"), "--line-thickness is 0"),
    "save-conf": (("--save-conf", "--source", "{i}"), "--save-conf writes into label files"),
    "head": (("--head", "one2one", "--source", "{i}"), "--head is 'one2one', but this network has one head"),
    "engine": (("--engine", "x", "--source", "{i}"), "--engine is 'x'"),
    "images": (("--engine", "sparse-int8", "--source", "{i}"), "sparse-int8 needs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(run, images, tmp_path, case):
    flags, words = BAD[case]
    (tmp_path / "empty").mkdir()
    for name in ("bad.jpg", "bad.png", "bad.mp4"):
        (tmp_path / name).write_bytes(b"neither image nor video")
    code, _, err = run(*(flag.format(t=tmp_path, i=images / "0.png") for flag in flags))
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_it_is_one_of_the_commands():
    assert "predict" in COMMANDS
    shim = (ROOT / "predict.py").read_text()
    assert shim == (ROOT / "val_sparse.py").read_text().replace("val_sparse", "predict").replace(
        "sparsity val", "sparsity predict"
    ).replace('"val"', '"predict"')
    done = subprocess.run([sys.executable, ROOT / "predict.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: predict.py")


def test_the_demo_needs_no_source(run_script, tmp_path, monkeypatch):
    from sparsity.demo import data as demo

    monkeypatch.setattr(demo, "COUNTS", {"train": 1, "val": 2})
    code, out, err = run_script(predict_command, "--demo", "--device", "cpu", "--project", tmp_path / "r")
    assert code == 0, err
    assert "2 pictures in " in out
    assert np.asarray(Image.open(tmp_path / "r" / "predict" / "000000.jpg")).shape == (320, 320, 3)
