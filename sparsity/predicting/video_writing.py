"""Videos of drawn frames: H.264 by PyAV where it is installed, else MPEG-4 by OpenCV."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sparsity.base.errors import InputError
from sparsity.base.files import writing_into

PYAV = "av"
SUFFIX = ".mp4"
SLOWEST = 1000
"""The largest denominator of a frame rate: 30000/1001 is 29.97."""


class Writer(ABC):
    """Writes frames of one size. It is made by the first frame."""

    @abstractmethod
    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 [height, width, 3] RGB; height and width are even."""

    @abstractmethod
    def close(self) -> None:
        """End the file."""


class PyAvWriter(Writer):
    """H.264, which browsers play."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._av: Any = import_module(PYAV)
        self._container = self._av.open(str(path), "w")
        rate = Fraction(fps).limit_denominator(SLOWEST + 1)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20"})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"

    def write(self, frame: np.ndarray) -> None:
        """Add a frame."""
        encoded = self._stream.encode(self._av.VideoFrame.from_ndarray(frame, format="rgb24"))
        self._container.mux(encoded)

    def close(self) -> None:
        """Write what the encoder still holds, and end the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


class OpenCvWriter(Writer):
    """MPEG-4 part 2, which most players play, but browsers do not."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not self._writer.isOpened():
            raise InputError(
                f"{path.name}: this OpenCV cannot write videos; pip install av, or give `nosave`"
            )

    def write(self, frame: np.ndarray) -> None:
        """Add a frame."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """End the file."""
        self._writer.release()


def has_pyav() -> bool:
    """Whether PyAV is installed."""
    return find_spec(PYAV) is not None


class VideoFile:
    """A video that gets its size from its first frame. A frame of another size is resized to it."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self._fps = path, fps
        self._writer: Writer | None = None
        self._size = (0, 0)

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 [height, width, 3] RGB. Odd sides get a line of grey more."""
        frame = np.pad(frame, [*((0, side % 2) for side in frame.shape[:2]), (0, 0)], constant_values=114)
        if self._writer is None:
            make = PyAvWriter if has_pyav() else OpenCvWriter
            self._size = (frame.shape[1], frame.shape[0])
            self._writer = make(self.path, self._fps, self._size)
        if frame.shape[1::-1] != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        with writing_into(self.path.parents[1]):
            self._writer.write(frame)

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            with writing_into(self.path.parents[1]):
                self._writer.close()


@contextmanager
def writing_video(path: Path, fps: float) -> Iterator[VideoFile]:
    """Give a video to write frames into. It gets its name when it is complete; on an error it is deleted.

    path: its suffix is .mp4. Raises InputError where it can't be written.
    """
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".writing", dir=path.parent)
    with folder as place:
        file = VideoFile(Path(place) / path.name, fps)
        try:
            yield file
        finally:
            file.close()
        if file.path.exists():
            with writing_into(path.parent):
                file.path.replace(path)
