"""Videos, written and read again frame by frame."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.predicting import video_writing
from sparsity.predicting.video_writing import has_pyav, writing_video
from sparsity.predicting.videos import USUAL_FPS, UnreadableVideoError, open_video

SHADES = range(20, 220, 20)


def frames(height: int, width: int) -> list[np.ndarray]:
    """Frames of one colour each, which a codec keeps: red rises, blue falls."""
    return [np.full((height, width, 3), (shade, 100, 240 - shade), np.uint8) for shade in SHADES]


@pytest.fixture(params=["av", "opencv"])
def codec(request, monkeypatch) -> str:
    """Which package writes."""
    if request.param == "av":
        pytest.importorskip("av")
    monkeypatch.setattr(video_writing, "has_pyav", lambda: request.param == "av")
    return request.param


@pytest.mark.parametrize("size", [(48, 64), (49, 63)], ids=["even", "odd: a line of grey more"])
def test_a_video_comes_back_frame_by_frame(tmp_path, codec, size):
    with writing_video(tmp_path / "a.mp4", 29.97) as file:
        for frame in frames(*size):
            file.write(frame)
    with open_video(tmp_path / "a.mp4") as video:
        assert video.fps == pytest.approx(29.97, abs=0.01)
        read = list(video.read())
    assert len(read) == video.frames == len(SHADES)
    for frame, written in zip(read, frames(*size), strict=True):
        assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
        middle = frame[10:30, 10:30].astype(int)
        assert np.abs(middle - written[10:30, 10:30]).mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_stopped_video_leaves_nothing(tmp_path, codec):
    def stop_after_one() -> None:
        with writing_video(tmp_path / "a.mp4", 30) as file:
            file.write(frames(48, 64)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_one()
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_none(tmp_path):
    with writing_video(tmp_path / "a.mp4", 30):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_resized(tmp_path, codec):
    with writing_video(tmp_path / "a.mp4", 30) as file:
        file.write(frames(48, 64)[0])
        file.write(frames(96, 128)[1])
    with open_video(tmp_path / "a.mp4") as video:
        assert [frame.shape for frame in video.read()] == [(48, 64, 3)] * 2


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    before = cv2.utils.logging.getLogLevel()
    for source, words in (
        (tmp_path / "a.mp4", r"a\.mp4: OpenCV cannot open this video"),
        (tmp_path / "no.mp4", r"no\.mp4: OpenCV cannot open"),
        (97, "`source` 97: no camera of this number can be opened"),
    ):
        with pytest.raises(UnreadableVideoError, match=words), open_video(source):
            pass
    assert cv2.utils.logging.getLogLevel() == before


def test_opencv_and_ffmpeg_say_nothing(tmp_path):
    """In a process of its own, since FFmpeg keeps the level of the first video."""
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    code = """
from contextlib import suppress
import os
import subprocess
import sys
from pathlib import Path
from sparsity.predicting.videos import UnreadableVideoError, open_video
for source in (Path("a.mp4"), 97):
    with suppress(UnreadableVideoError), open_video(source):
        print("opened")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Fake:
    """A capture that opens, and gives some frames."""

    def __init__(self, count: int, fps: float) -> None:
        self.left, self.fps = count, fps

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, name: int) -> float:
        return self.fps if name == cv2.CAP_PROP_FPS else -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return self.left >= 0, frames(4, 4)[0]

    def release(self) -> None:
        self.left = 0


@pytest.mark.parametrize("fps", [0.0, float("nan"), 90_000.0], ids=["none", "no number", "a time base"])
def test_an_unknown_frame_rate_is_the_usual_one(monkeypatch, fps):
    monkeypatch.setattr(cv2, "VideoCapture", lambda _source: Fake(2, fps))
    with open_video(0) as video:
        assert (video.fps, video.frames) == (USUAL_FPS, 0)
        (first, _) = video.read()
    assert first[0, 0].tolist() == [220, 100, 20], "RGB"


def test_a_video_that_opens_but_has_no_frame(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda _source: Fake(0, 30))
    with open_video(Path("a.mp4")) as video, pytest.raises(UnreadableVideoError, match=r"a\.mp4: no frame"):
        list(video.read())


def test_an_opencv_that_cannot_write(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writing, "has_pyav", lambda: False)
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *_letters: 1)
    words = r"a\.mp4: this OpenCV cannot write videos; pip install av"
    with writing_video(tmp_path / "a.mp4", 30) as file, pytest.raises(InputError, match=words):
        file.write(frames(4, 4)[0])


def test_pyav_is_looked_for_not_imported():
    assert isinstance(has_pyav(), bool)
