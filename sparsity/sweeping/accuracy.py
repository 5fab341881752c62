"""One pass over the images for several levels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

from sparsity.data.dataset import Dataset
from sparsity.data.loader import Batch
from sparsity.inference import PhaseSeconds
from sparsity.sweeping.copies import Copy
from sparsity.sweeping.level import Level
from sparsity.sweeping.store import Found, Store
from sparsity.validation import Evaluator, ValidationSettings, make_evaluator, make_loader
from sparsity.yolo.network import Network


def detect_levels(
    copies: Mapping[Level, Copy],
    network: Network,
    dataset: Dataset,
    settings: ValidationSettings,
    store: Store,
    tick: Callable[[int], None],
) -> dict[Level, tuple[Evaluator, PhaseSeconds]]:
    """Run every copy on every batch; each level's detections, matched, and the time they took.

    A batch is decoded once. What a level found in a batch goes to the store at once, and is taken
    from there where an earlier run left it. tick gets the number of images done by a level.
    """
    outcomes = {level: (make_evaluator(dataset, network, settings), PhaseSeconds()) for level in copies}
    loader = make_loader(dataset, network, settings)
    known = {
        number for number in range(len(loader)) if all(store.has_found(level, number) for level in copies)
    }

    def keep(level: Level, number: int, batch: Batch, found: Found, *, new: bool) -> None:
        if new:
            store.write_found(level, number, found)
        evaluator, seconds = outcomes[level]
        evaluator.update(batch.images, batch.placements, found.detections)
        seconds.include(found.seconds)

    with (
        closing(loader.iterate(without_pixels=known)) as stream,
        ThreadPoolExecutor(1, thread_name_prefix="evaluate") as beside,
    ):
        # A level's detections are matched and kept while the network works on.
        waiting: deque[Future[None]] = deque()
        for number, batch in enumerate(stream):
            for level, one in copies.items():
                found = store.found(level, number)
                new = found is None
                if found is None:
                    found = _detect(one, batch if number not in known else loader.read(number))
                waiting.append(beside.submit(keep, level, number, batch, found, new=new))
                tick(len(batch.images))
            while waiting and waiting[0].done():
                waiting.popleft().result()
        for future in waiting:
            future.result()
    return outcomes


def _detect(one: Copy, batch: Batch) -> Found:
    before = replace(one.detector.seconds)
    detections = one.detector.detect(batch.pixels)
    return Found(tuple(detections), one.detector.seconds.since(before))
