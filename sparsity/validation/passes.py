"""The loop over the images: every network detects on every batch, and its evaluator counts what it found."""

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
from sparsity.validation.nms import Detections

Key = TypeVar("Key")
KeyIn = TypeVar("KeyIn", contravariant=True)


@dataclass(frozen=True)
class Found:
    """What a network found in a batch: each image's detections in letterbox pixels, and the time."""

    detections: tuple[Detections, ...]
    seconds: PhaseSeconds


class Batches(Protocol):
    """Batches by number, as data.loader.BatchLoader gives them."""

    def __len__(self) -> int:
        """How many batches there are."""

    def iterate(self, *, without_pixels: Collection[int] = ()) -> Iterator[Batch]:
        """All batches in order; the pixels of those whose numbers are given may be missing."""

    def read(self, number: int) -> Batch:
        """One batch, with its pixels."""


class Archive(Protocol[KeyIn]):
    """Keeps what networks found, so that a run that was stopped goes on."""

    def has_found(self, key: KeyIn, batch: int) -> bool:
        """Whether a network's detections in a batch are kept."""

    def found(self, key: KeyIn, batch: int) -> Found | None:
        """A network's detections in a batch; None where they are not kept, or damaged."""

    def write_found(self, key: KeyIn, batch: int, found: Found) -> None:
        """Keep a network's detections in a batch."""


class DecodedBatches:
    """Batches that are in memory, for networks that are validated one after another."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = tuple(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def iterate(self, *, without_pixels: Collection[int] = ()) -> Iterator[Batch]:
        """All batches in order."""
        return (batch for batch in self._batches)

    def read(self, number: int) -> Batch:
        """One batch."""
        return self._batches[number]


class NoArchive:
    """Keeps nothing."""

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
    """Run every detector on every batch, and have its evaluator take what it found.

    archive: what an earlier run found is taken from it, and what is found now is kept in it at once.
    tick: called with the number of images that a detector has done.
    Returns the seconds that each detector took.
    """
    archive = NoArchive() if archive is None else archive
    seconds = {key: PhaseSeconds() for key in detectors}

    def count(key: Key, number: int, batch: Batch, found: Found, *, new: bool) -> None:
        if new:
            archive.write_found(key, number, found)
        evaluators[key].update(batch.images, batch.placements, found.detections)
        seconds[key].include(found.seconds)

    known = {n for n in range(len(batches)) if all(archive.has_found(key, n) for key in detectors)}
    with closing(batches.iterate(without_pixels=known)) as stream, _Beside() as beside:
        for number, batch in enumerate(stream):
            for key, detector in detectors.items():
                kept = archive.found(key, number)
                if kept is None and number in known:
                    batch = batches.read(number)
                found = kept or _detect(detector, batch)
                beside.run(count, key, number, batch, found, new=kept is None)
                tick(len(batch.images))
    return seconds


def _detect(detector: Detector, batch: Batch) -> Found:
    before = replace(detector.seconds)
    detections = detector.detect(batch.pixels)
    return Found(tuple(detections), detector.seconds.since(before))


class _Beside:
    """Runs calls one after another in a thread of its own, so that matching overlaps with detecting.

    Leaving the context waits for all calls. An error of a call is raised by a later run, or on leaving.
    """

    def __enter__(self) -> _Beside:
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
