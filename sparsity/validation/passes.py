"""The loop over the images: every network detects on every batch, and its evaluator takes the detections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from sparsity.data.loader import Batch
from sparsity.validation.detector import Detector, PhaseSeconds
from sparsity.validation.evaluator import Evaluator
from sparsity.validation.nms import KeptBoxes

Key = TypeVar("Key")
KeyIn = TypeVar("KeyIn", contravariant=True)


@dataclass(frozen=True)
class Found:
    """A network's detections in a batch, per image in letterbox pixels, and the time that they took."""

    detections: tuple[KeptBoxes, ...]
    seconds: PhaseSeconds


class Batches(Protocol):
    """Numbered batches, such as those of data.loader.BatchLoader."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def iterate(self, *, without_pixels: Collection[int] = ()) -> Iterator[Batch]:
        """Return all batches in order. Those in without_pixels may have no pixels."""

    def read(self, number: int) -> Batch:
        """Return one batch, with its pixels."""


class Archive(Protocol[KeyIn]):
    """Stores the detections of networks, to resume a run that was stopped."""

    def has_found(self, key: KeyIn, batch: int) -> bool:
        """Whether the detections of a network in a batch are stored."""

    def found(self, key: KeyIn, batch: int) -> Found | None:
        """Return the detections of a network in a batch; None where they are not stored, or damaged."""

    def write_found(self, key: KeyIn, batch: int, found: Found) -> None:
        """Store the detections of a network in a batch."""


class DecodedBatches:
    """Batches in memory, for validations of several networks one after another."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = tuple(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def iterate(self, *, without_pixels: Collection[int] = ()) -> Iterator[Batch]:
        """Return all batches in order."""
        return (batch for batch in self._batches)

    def read(self, number: int) -> Batch:
        """Return one batch."""
        return self._batches[number]


class NoArchive:
    """An archive that stores nothing."""

    def has_found(self, _key: object, _batch: int) -> bool:
        """Return False."""
        return False

    def found(self, _key: object, _batch: int) -> None:
        """Return None."""

    def write_found(self, _key: object, _batch: int, _found: Found) -> None:
        """Do nothing."""


def run_pass(
    detectors: Mapping[Key, Detector],
    evaluators: Mapping[Key, Evaluator],
    batches: Batches,
    *,
    archive: Archive[Key] | None = None,
    tick: Callable[[int], object] = lambda _images: None,
) -> dict[Key, PhaseSeconds]:
    """Run every detector on every batch, and pass its detections to its evaluator.

    archive: detections of an earlier run are read from it, and new detections are stored in it at once.
    tick: called with the number of images after each batch of each detector.
    Returns the time of each detector. For detections from the archive, this is the stored time.
    """
    archive = NoArchive() if archive is None else archive
    seconds = {key: PhaseSeconds() for key in detectors}

    def count(key: Key, number: int, batch: Batch, found: Found, *, new: bool) -> None:
        if new:
            archive.write_found(key, number, found)
        evaluators[key].update(batch.images, batch.placements, found.detections)
        seconds[key].include(found.seconds)

    known = {n for n in range(len(batches)) if all(archive.has_found(key, n) for key in detectors)}
    with closing(batches.iterate(without_pixels=known)) as stream, _Background() as background:
        for number, batch in enumerate(stream):
            for key, detector in detectors.items():
                stored = archive.found(key, number)
                if stored is None and number in known:
                    batch = batches.read(number)
                found = stored or detect_batch(detector, batch)
                background.run(count, key, number, batch, found, new=stored is None)
                tick(len(batch.images))
    return seconds


def replay(key: Key, evaluator: Evaluator, batches: Batches, archive: Archive[Key]) -> PhaseSeconds:
    """Pass all detections of a network, from the archive, to its evaluator. Returns the time that they took.

    Raises LookupError where the archive lacks a batch.
    """
    seconds = PhaseSeconds()
    for number, batch in enumerate(batches.iterate(without_pixels=range(len(batches)))):
        found = archive.found(key, number)
        if found is None:
            raise LookupError(f"batch {number} of {key}")
        evaluator.update(batch.images, batch.placements, found.detections)
        seconds.include(found.seconds)
    return seconds


def detect_batch(detector: Detector, batch: Batch) -> Found:
    """Return the detections of a batch, with the time that they took."""
    before = replace(detector.seconds)
    detections = detector.detect(batch.pixels)
    return Found(tuple(detections), detector.seconds.since(before))


class _Background:
    """Runs calls one after another in a separate thread, while the calling thread goes on detecting.

    Leaving the context waits for all calls. An error in a call is raised by a later run(), or on leaving.
    """

    def __enter__(self) -> _Background:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="evaluate")
        self._waiting: deque[Future[None]] = deque()
        return self

    def run(self, function: Callable[..., None], *args: Any, **options: Any) -> None:
        """Queue a call."""
        self._waiting.append(self._pool.submit(function, *args, **options))
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            for call in self._waiting:
                call.result()
