"""The loop over a source: pictures and frames in, detections of every network, files out."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from sparsity.base.devices import usable_cores
from sparsity.base.errors import InputError
from sparsity.data.images import read_complete_image
from sparsity.predicting.detections import Detections
from sparsity.predicting.outputs import Outputs, video_path
from sparsity.predicting.predictor import TOGETHER, Predictor
from sparsity.predicting.sources import FileName, Source, file_names, is_video
from sparsity.predicting.video_writing import writing_video
from sparsity.predicting.videos import UnreadableVideoError, Video, open_video
from sparsity.validation.detector import PhaseSeconds

AHEAD = 4
"""The number of pictures that are decoded in advance."""
MOST_VALUES = 200_000_000
"""Pictures that are detected in together hold about this many numbers at most, 3 for each pixel."""
Item = TypeVar("Item")
CAMERA = FileName(PurePath("camera"), PurePath("camera"))


@dataclass
class Totals:
    """What a job has done.

    found: for each network, how many of each class. pictures, frames: how many of files, and of videos and
    cameras. problems: a line for each file that can't be read. seconds: the wall time. first: for each
    network, the time of its first run, which takes longer than later ones.
    """

    found: list[Counter[str]]
    pictures: int = 0
    frames: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    first: tuple[PhaseSeconds, ...] = ()

    @property
    def images(self) -> int:
        """The number of pictures and frames."""
        return self.pictures + self.frames


@dataclass(frozen=True)
class Listener:
    """Who is told how a job goes on.

    picture, frame: called with a line for each. warn: with a line for each file that can't be read.
    tick: with the number of files or frames that are done. expect: with the number of frames of each video
    that begins, 0 where it is unknown.
    """

    picture: Callable[[str], object] = lambda _line: None
    frame: Callable[[str], object] = lambda _line: None
    warn: Callable[[str], object] = lambda _line: None
    tick: Callable[[int], object] = lambda _count: None
    expect: Callable[[int], object] = lambda _count: None


class Job:
    """Detects in all of a source with every network, and writes the files."""

    def __init__(
        self, predictors: Sequence[Predictor], outputs: Outputs, listener: Listener | None = None
    ) -> None:
        self._predictors, self._outputs = tuple(predictors), outputs
        self._listener = listener or Listener()
        self.totals = Totals([Counter() for _ in self._predictors])

    def run(self, source: Source) -> Totals:
        """Do the work. A file that can't be read is left out, and is one of the problems.

        A camera runs until it ends, or until Ctrl-C; its video is complete then.
        Raises InputError where nothing can be read, and where the results can't be written.
        """
        start = time.perf_counter()
        if source.camera is None:
            names = file_names(source.files)
            self._look([file for file in source.files if not is_video(file)], names)
            self._watch([file for file in source.files if is_video(file)], names)
        else:
            self._film(source.camera, CAMERA, together=1)
        self.totals.seconds = time.perf_counter() - start
        if not self.totals.images:
            count, first = len(self.totals.problems), self.totals.problems[0]
            raise InputError(first if count == 1 else f"none of {count} files can be read, such as {first}")
        return self.totals

    def _look(self, files: Sequence[Path], names: Mapping[Path, FileName]) -> None:
        """Detect in pictures."""
        with closing(self._decoded(files)) as decoded:
            for some in gather(decoded, TOGETHER, lambda one: one[1].size):
                found = self._find([pixels for _, pixels in some])
                for (file, pixels), each in zip(some, found, strict=True):
                    self._outputs.write_picture(names[file], pixels, each)
                    self.totals.pictures += 1
                    self._listener.picture(self._count(str(file), each))

    def _decoded(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield the pictures that can be read. Threads decode them in advance."""
        pool = ThreadPoolExecutor(max(1, usable_cores() // 2), thread_name_prefix="decode")
        waiting: deque[tuple[Path, Future[np.ndarray]]] = deque()
        upcoming = iter(files)
        try:
            while True:
                for file in islice(upcoming, AHEAD - len(waiting)):
                    waiting.append((file, pool.submit(read_complete_image, file)))
                if not waiting:
                    return
                file, result = waiting.popleft()
                try:
                    pixels = result.result()
                except InputError as error:
                    self._fail(error)
                    self._listener.tick(1)
                    continue
                yield file, pixels
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _watch(self, files: Sequence[Path], names: Mapping[Path, FileName]) -> None:
        """Detect in videos."""
        for file in files:
            try:
                self._film(file, names[file], together=TOGETHER)
            except UnreadableVideoError as error:
                self._fail(error)

    def _film(self, source: Path | int, name: FileName, *, together: int) -> None:
        """Detect in the frames of a video or a camera, and write a video of them."""
        with open_video(source) as video:
            self._listener.expect(video.frames)
            path = self._outputs.folder / video_path(name.picture)
            writing = writing_video(path, video.fps) if self._outputs.wanted.pictures else nullcontext()
            with writing as file, _ending_at_ctrl_c(isinstance(source, int)):
                for frame, (pixels, found) in enumerate(self._frames(video, together), 1):
                    if file is not None:
                        file.write(np.asarray(self._outputs.draw(pixels, found)))
                    self._outputs.write_details(name, pixels, found, frame)
                    self.totals.frames += 1
                    self._listener.frame(self._count(f"{source}, frame {frame}", found))

    def _frames(self, video: Video, together: int) -> Iterator[tuple[np.ndarray, tuple[Detections, ...]]]:
        """Yield each frame, and what each network finds in it."""
        for some in gather(video.read(), together, lambda pixels: pixels.size):
            yield from zip(some, self._find(some), strict=True)

    def _find(self, pixels: Sequence[np.ndarray]) -> list[tuple[Detections, ...]]:
        """Return for each picture what each network finds."""
        found = list(zip(*(predictor.find(pixels) for predictor in self._predictors), strict=True))
        self.totals.first = self.totals.first or tuple(replace(one.seconds) for one in self._predictors)
        return found

    def _count(self, name: str, found: Sequence[Detections]) -> str:
        """Count a picture's detections. Return a line about them."""
        for counter, one in zip(self.totals.found, found, strict=True):
            counter.update(one.found)
        width, height = found[0].size
        titles = self._outputs.titles
        each = [one.describe() for one in found]
        told = each[0] if len(each) == 1 else "; ".join(map("{}: {}".format, titles, each))
        self._listener.tick(1)
        return f"{name}: {width} x {height}, {told}"

    def _fail(self, error: InputError) -> None:
        self.totals.problems.append(str(error))
        self._listener.warn(f"WARNING: {error}; it is skipped")


def gather(items: Iterable[Item], most: int, values: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `most`, which end early where they hold MOST_VALUES numbers.

    values: how many numbers an item holds.
    """
    some: list[Item] = []
    held = 0
    for item in items:
        some.append(item)
        held += values(item)
        if len(some) == most or held >= MOST_VALUES:
            yield some
            some, held = [], 0
    if some:
        yield some


@contextmanager
def _ending_at_ctrl_c(wanted: bool) -> Iterator[None]:
    """Let Ctrl-C end the work inside, as if it had come to its end, if that is wanted."""
    try:
        yield
    except KeyboardInterrupt:
        if not wanted:
            raise
