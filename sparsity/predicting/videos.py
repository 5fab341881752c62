"""Frames of videos and cameras, read by OpenCV."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sparsity.base.errors import InputError

USUAL_FPS = 30.0
"""The frames a second of a video that names none, and of a camera's video."""
MOST_FPS = 1000.0
FFMPEG_LEVEL, QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"
"""The environment variable with the level of FFmpeg's messages, and the level without any."""


class UnreadableVideoError(InputError):
    """A video or a camera gives no frame."""


@dataclass(frozen=True)
class Video:
    """An open video or camera.

    source: its file or number. fps: frames a second. frames: their number as the file names it, 0 where it is
    unknown.
    """

    source: Path | int
    capture: cv2.VideoCapture = field(repr=False)
    fps: float
    frames: int

    def read(self) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 [height, width, 3] RGB, turned as the file requires.

        Raises UnreadableVideoError where there is none.
        """
        for number in itertools.count():
            read, frame = self.capture.read()
            if not read:
                if not number:
                    raise UnreadableVideoError(f"{self._name}: no frame of it can be read")
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    @property
    def _name(self) -> str:
        return f"camera {self.source}" if isinstance(self.source, int) else str(self.source)


@contextmanager
def open_video(source: Path | int) -> Iterator[Video]:
    """Open a video's file or the camera of a number. Raises UnreadableVideoError where it can't be opened."""
    with _quiet():
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            raise UnreadableVideoError(
                f"`source` {source}: no camera of this number can be opened"
                if isinstance(source, int)
                else f"{source}: OpenCV cannot open this video; it is damaged, or no video"
            )
        fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        known = math.isfinite(fps) and 0 < fps <= MOST_FPS
        yield Video(source, capture, fps if known else USUAL_FPS, _count(frames))
    finally:
        capture.release()


def _count(frames: float) -> int:
    return int(frames) if math.isfinite(frames) and 0 < frames < 1e9 else 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of OpenCV, and of FFmpeg in it: an InputError says what they would.

    FFmpeg keeps the level that it finds in the environment when the process opens its first video.
    """
    logging = cv2.utils.logging
    before, given = logging.getLogLevel(), os.environ.get(FFMPEG_LEVEL)
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    os.environ.setdefault(FFMPEG_LEVEL, QUIET)
    try:
        yield
    finally:
        logging.setLogLevel(before)
        if given is None:
            del os.environ[FFMPEG_LEVEL]
