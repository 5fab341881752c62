"""Measure what the folder of a sweep does not have yet."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsity.base.devices import usable_cores
from sparsity.base.files import write_json, writing_into
from sparsity.base.memory import free_memory
from sparsity.base.progress import progress_bar
from sparsity.data.dataset import Dataset
from sparsity.data.loader import BatchLoader
from sparsity.evaluation import processes
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.evaluation.coco import CocoFigures
from sparsity.evaluation.results import ARRAYS
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.copies import Copies, Facts
from sparsity.sweeping.intervals import is_matched
from sparsity.sweeping.level import Level
from sparsity.sweeping.level_latency import time_levels
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.stages import ONE_SHOT
from sparsity.sweeping.store import Finished, Store
from sparsity.sweeping.workers import Workers
from sparsity.validation.detector import PhaseSeconds, RanIn
from sparsity.validation.evaluator import Evaluator, counted_categories, make_evaluator
from sparsity.validation.inputs import make_loader
from sparsity.validation.metrics import Metrics
from sparsity.validation.passes import replay, run_pass
from sparsity.validation.run_files import PREDICTIONS, write_layers, write_predictions
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import Origin, make_metrics

_EVALUATED = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
"""The keys of an annotation that pycocotools reads."""


@dataclass(frozen=True)
class Detected:
    """A level whose detections are complete: the facts of its network, what ran it, and the time."""

    facts: Facts
    ran_in: RanIn
    seconds: PhaseSeconds


@dataclass
class Job:
    """The work of a sweep: time, validate and evaluate its missing levels, and write them to the store.

    workers: compute the levels elsewhere; None: this process does.
    """

    pruner: Pruner
    dataset: Dataset
    wanted: SweepSettings
    settings: ValidationSettings
    store: Store
    about: dict[str, Any]
    progress: bool
    say: Callable[[str], None]
    on_level: Callable[[Metrics, AveragePrecision], None]
    train_seconds: Callable[[Level], float] = lambda _level: 0.0
    workers: Workers | None = None

    def run(self, copies: Copies, levels: Sequence[Level], *, timed: bool = True) -> None:
        """Measure what the store does not have yet of these levels.

        timed: whether their latency is measured, too: of the one-shot levels, which share it with the others.
        """
        missing = self.missing(levels)
        timed_levels = [level for level in levels if level.stage == ONE_SHOT] if timed else []
        if len(missing) < len(levels):
            self.say(f"{len(levels) - len(missing)} of {len(levels)} levels are already finished")
        groups = copies.groups(missing) if self.workers is None else []
        if groups:
            self.say(_describe_passes(copies, groups, len(self.dataset.images)))
        work = len(missing) * len(self.dataset.images)
        with progress_bar(total=work, unit="img", shown=self.progress, smoothing=0.1, leave=False) as bar:
            self._time(copies, timed_levels, bar)
            if self.workers is None:
                self._validate(copies, groups, bar)
            elif missing:
                self._gather(self.workers, missing, bar)
            self._match(levels, bar)

    def missing(self, levels: Sequence[Level]) -> list[Level]:
        """Return the levels that are not finished."""
        return [level for level in levels if self.store.finished(level) is None]

    def _time(self, copies: Copies, levels: Sequence[Level], bar: Any) -> None:
        """Measure the latency of levels that take turns. This comes first, while nothing else runs."""
        untimed = [size for size in self.wanted.batch_sizes if self.store.latency(size, levels) is None]
        for size in untimed if levels else ():
            bar.set_description(f"Latency, batch {size}")
            counted, total = bar.n, bar.total

            def tick(done: int, todo: int, counted: int = counted, total: int = total) -> None:
                bar.total = total + todo
                bar.update(counted + done - bar.n)

            if self.workers is None:
                imgsz, device = self.settings.imgsz, copies.device_name
                times = time_levels(copies, levels, size, imgsz, self.wanted.rounds, tick)
            else:
                times, device = self.workers.time(levels, size)
            self.store.write_latency(size, times, device)

    def _validate(self, copies: Copies, groups: Sequence[Sequence[Level]], bar: Any) -> None:
        """Validate pass by pass. The evaluations of a pass run during the next pass."""
        if not groups:
            return
        copies.get(groups[0])  # first: the number of evaluations depends on the memory that is left
        with self._evaluating(bar) as evaluate:
            for group in groups:
                bar.set_description("Validating")
                made = copies.get(group)
                evaluators = {level: self._make_evaluator() for level in group}
                seconds = run_pass(
                    {level: made[level].detector for level in group},
                    evaluators,
                    self._make_loader(),
                    archive=self.store,
                    tick=bar.update,
                )
                for level in group:
                    copy = made[level]
                    done = Detected(copy.pruned.facts, copy.detector.ran_in, seconds[level])
                    evaluate(level, done, evaluators.pop(level))

    def _gather(self, workers: Workers, levels: Sequence[Level], bar: Any) -> None:
        """Have workers detect, and evaluate each level when its detections are complete."""
        bar.set_description("Validating")
        with self._evaluating(bar) as evaluate:
            for level, facts, ran_in in workers.detect(levels, self.store, bar.update):
                evaluator = self._make_evaluator()
                seconds = replay(level, evaluator, self._make_loader(), self.store)
                evaluate(level, Detected(facts, ran_in, seconds), evaluator)

    def _make_evaluator(self) -> Evaluator:
        return make_evaluator(self.dataset, self.pruner.network, self.settings)

    def _make_loader(self) -> BatchLoader:
        return make_loader(self.dataset.images, self.pruner.network, self.settings)

    @contextmanager
    def _evaluating(self, bar: Any) -> Iterator[Callable[[Level, Detected, Evaluator], None]]:
        """Give a function that evaluates a level in the background. Leaving waits for all of them."""
        annotations, pending = self._annotations(), deque[Future[None]]()
        pool = ThreadPoolExecutor(self._evaluations_at_a_time(), thread_name_prefix="pycocotools")

        def evaluate(level: Level, done: Detected, evaluator: Evaluator) -> None:
            pending.append(self._submit(pool, level, done, evaluator, annotations))
            while pending and pending[0].done():
                pending.popleft().result()

        try:
            yield evaluate
            bar.set_description("Evaluating")
            for future in pending:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        level: Level,
        done: Detected,
        evaluator: Evaluator,
        annotations: Path,
    ) -> Future[None]:
        """Write a level's detections, and submit their evaluation by pycocotools."""
        start = time.perf_counter()
        results = evaluator.results()
        with writing_into(self.store.folder):
            folder = self.store.level_folder(level)
            write_predictions(folder, results)
            results.save(self._arrays(level))  # Another process reads them much faster than JSON.
            write_layers(folder, done.facts.layers)
        own = evaluator.own()
        spent = time.perf_counter() - start + done.seconds.total
        return pool.submit(self._finish, level, done, own, annotations, spent)

    def _finish(
        self, level: Level, done: Detected, own: AveragePrecision, annotations: Path, spent: float
    ) -> None:
        start = time.perf_counter()
        figures = self._evaluate(level, annotations)
        method, facts = level.method, done.facts
        origin = Origin(
            self.about["weights"],
            method.scope,
            level.amount,
            method.name,
            **self.pruner.rules,
            channels_removed=facts.channels_removed,
            budget=method.budget,
            predicted_ms=facts.predicted_ms,
        )
        dataset, settings = self.dataset, self.settings
        metrics = make_metrics(
            origin, dataset, settings, facts.counted, own, figures, done.ran_in, done.seconds
        )
        self.store.finish(
            level,
            Finished(
                metrics,
                facts.sizes,
                seconds=spent + time.perf_counter() - start,
                prune_seconds=facts.seconds,
                train_seconds=self.train_seconds(level),
            ),
        )
        self.on_level(metrics, own)

    def _arrays(self, level: Level) -> Path:
        return self.store.scratch(f"{level.key}{ARRAYS}")

    def _evaluate(self, level: Level, annotations: Path) -> CocoFigures:
        """Evaluate a level's detections: its arrays, or its predictions.json where it was finished before."""
        arrays, predictions = self._arrays(level), self.store.level_folder(level) / PREDICTIONS
        try:
            return self._evaluate_file(level, annotations, arrays if arrays.exists() else predictions)
        finally:
            arrays.unlink(missing_ok=True)

    def _evaluate_file(self, level: Level, annotations: Path, results: Path) -> CocoFigures:
        return processes.evaluate_files(
            annotations,
            results,
            image_ids=self.dataset.image_ids,
            category_ids=counted_categories(self.dataset, self.settings),
            matched=self.store.matched_path(level) if self.wanted.bootstrap else None,
        )

    def _match(self, levels: Sequence[Level], bar: Any) -> None:
        """Match the detections of levels that were finished without matches, if images are resampled."""
        if not self.wanted.bootstrap:
            return
        unmatched = [level for level in levels if not is_matched(self.store, level)]
        if not unmatched:
            return
        bar.set_description("Evaluating")
        annotations = self._annotations()
        with ThreadPoolExecutor(self._evaluations_at_a_time(), thread_name_prefix="pycocotools") as pool:
            for _ in pool.map(lambda level: self._evaluate(level, annotations), unmatched):
                pass

    def _annotations(self) -> Path:
        """Return the path of a file with those parts of the annotations that pycocotools reads."""
        path = self.store.scratch("annotations.json")
        if not path.exists():
            with writing_into(self.store.folder):
                write_json(path, _evaluated(self.dataset.annotations.content))
        return path

    def _evaluations_at_a_time(self) -> int:
        most = len(self.dataset.images) * self.settings.max_det * processes.BYTES_PER_RESULT
        free = min(free_memory(torch.device("cpu")) // 2, processes.MOST_BYTES)
        fitting = free // (most + processes.BYTES_PER_PROCESS)
        return int(max(1, min(usable_cores(), fitting)))


def _evaluated(content: dict[str, Any]) -> dict[str, Any]:
    """Return COCO annotations without the keys that pycocotools does not read, such as outlines."""
    rows = [{key: row[key] for key in _EVALUATED if key in row} for row in content["annotations"]]
    return {"images": content["images"], "categories": content["categories"], "annotations": rows}


def _describe_passes(copies: Copies, groups: Sequence[Sequence[Level]], images: int) -> str:
    return (
        f"{len(groups[0])} networks in memory at a time ({copies.copy_bytes / 2**30:.2f} GiB each, "
        f"{copies.free_bytes / 2**30:.1f} GiB free): {len(groups)} pass{'es' * (len(groups) > 1)} "
        f"over {images} images"
    )
