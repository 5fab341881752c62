"""The loop over a source: what is read, skipped, counted and told."""

import cv2
import numpy as np
import pytest

from sparsity import PredictionSettings, Predictor
from sparsity.base.errors import InputError
from sparsity.predicting import job as job_module
from sparsity.predicting.job import Job, Listener, gather
from sparsity.predicting.outputs import Outputs, Wanted
from sparsity.predicting.sources import Source, find_source
from sparsity.predicting.videos import Video

SETTINGS = PredictionSettings(imgsz=64, conf_thres=0.3, device="cpu")


@pytest.fixture
def predictor(slight):
    with Predictor(slight, SETTINGS) as made:
        yield made


@pytest.fixture
def told() -> dict[str, list]:
    return {"picture": [], "frame": [], "warn": [], "tick": [], "expect": []}


@pytest.fixture
def job(predictor, told, tmp_path):
    """Makes a job that writes into out/."""

    def make(**wanted: bool) -> Job:
        (tmp_path / "out").mkdir()
        listener = Listener(**{name: lines.append for name, lines in told.items()})
        return Job([predictor], Outputs(tmp_path / "out", Wanted(**wanted), ["n.pt"]), listener)

    return make


def test_a_folder_with_damaged_files(job, told, shapes, tmp_path):
    folder = shapes.parent / "images"
    (folder / "3.png").write_bytes(b"no image")
    (folder / "z.mp4").write_bytes(b"no video")
    totals = job(labels=True).run(find_source(str(folder)))
    assert (totals.pictures, totals.frames, len(totals.problems)) == (5, 0, 2)
    assert sum(totals.found[0].values()) > 5
    assert [line.split(":")[0] for line in told["picture"]] == [
        str(folder / f"{i}.png") for i in (0, 1, 2, 4, 5)
    ]
    assert "0.png: 40 x 64, " in told["picture"][0]
    assert "3.png: OpenCV cannot decode it; it is damaged, or no image; it is skipped" in told["warn"][0]
    assert "z.mp4: OpenCV cannot open this video" in told["warn"][1]
    assert sum(told["tick"]) == 6
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"labels", *(f"{i}.png" for i in (0, 1, 2, 4, 5))}


def test_the_labels_are_the_detections(job, predictor, shapes, tmp_path):
    file = shapes.parent / "images" / "0.png"
    job(pictures=False, labels=True).run(find_source(str(file)))
    assert (tmp_path / "out" / "labels" / "0.txt").read_text() == predictor(file).to_labels()


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_that_can_be_read_is_an_error(job, tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        job().run(find_source(str(tmp_path)))
    assert "0.jpg: OpenCV cannot decode it" in str(caught.value)
    assert ("none of 2 files can be read" in str(caught.value)) == (count == 2)


def film(path, count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    small = [cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)) for _ in range(count)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for frame in small:
        writer.write(frame)
    writer.release()
    return small


def test_a_video(job, told, predictor, tmp_path):
    film(tmp_path / "a.avi")
    totals = job(labels=True).run(find_source(str(tmp_path / "a.avi")))
    assert (totals.pictures, totals.frames, told["expect"], sum(told["tick"])) == (0, 5, [5], 5)
    assert told["frame"][0].startswith(f"{tmp_path / 'a.avi'}, frame 1: 64 x 48, ")
    capture = cv2.VideoCapture(str(tmp_path / "a.avi"))
    first = predictor(capture.read()[1], channels="bgr")
    assert (tmp_path / "out" / "labels" / "a_1.txt").read_text() == first.to_labels()
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "a.avi.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    assert drawn.read()[1].shape == (240, 320, 3), "enlarged, so that labels can be read"


def test_a_camera_runs_until_ctrl_c_and_its_video_is_complete(job, told, tmp_path, monkeypatch):
    film(tmp_path / "a.avi")

    def read(video):
        capture = cv2.VideoCapture(str(tmp_path / "a.avi"))
        for _ in range(3):
            yield capture.read()[1]
        raise KeyboardInterrupt

    real = cv2.VideoCapture
    monkeypatch.setattr(Video, "read", read)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _number: real(str(tmp_path / "a.avi")))
    job_made = job()
    monkeypatch.setattr(cv2, "VideoCapture", lambda place: real(str(tmp_path / "a.avi")))
    totals = job_made.run(Source(camera=0))
    assert totals.frames == 3
    assert real(str(tmp_path / "out" / "camera.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_large_pictures_are_detected_in_alone(monkeypatch):
    monkeypatch.setattr(job_module, "MOST_VALUES", 10)
    assert list(gather([1, 2, 12, 3, 3, 3, 3], 3, lambda value: value)) == [[1, 2, 12], [3, 3, 3], [3]]
    assert list(gather([], 3, lambda value: value)) == []
