"""Levels -> rows: latency by turns, accuracy in one pass over the images, evaluations side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sparsity.data.dataset import Dataset, read_dataset
from sparsity.devices import describe_environment, package_version, select_device, usable_cores
from sparsity.engines.registry import ENGINES, PACKAGES, TORCH
from sparsity.errors import InputError
from sparsity.evaluation import processes
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.evaluation.bootstrap import Interval
from sparsity.evaluation.coco import CocoFigures
from sparsity.files import write_json, writing_into
from sparsity.inference import Lanes, PhaseSeconds
from sparsity.latency import Rounds, summarize
from sparsity.memory import free_memory
from sparsity.metrics import Metrics
from sparsity.progress import progress_bar
from sparsity.pruner import Pruner
from sparsity.pruning.method import Method
from sparsity.rows import Sweep, SweepRow, make_frame
from sparsity.run_files import read_layers, write_annotations, write_layers
from sparsity.sweeping.accuracy import detect_levels
from sparsity.sweeping.copies import Copies, Copy
from sparsity.sweeping.intervals import change, differences, is_matched, resample
from sparsity.sweeping.level import Level, plan
from sparsity.sweeping.setup import describe_setup
from sparsity.sweeping.store import Finished, Store
from sparsity.sweeping.timing import time_levels
from sparsity.validation import (
    Evaluator,
    Origin,
    ValidationSettings,
    counted_categories,
    fit,
    make_metrics,
)
from sparsity.yolo.network import Network

MOST_BATCH = 4096
BOOTSTRAP = 1000
"""As many times the images are drawn anew."""
_EVALUATED = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
"""What pycocotools looks at in an annotation."""


@dataclass(frozen=True)
class SweepSettings:
    """What to sweep; see ValidationSettings for how each level is validated.

    amounts: fractions in [0, 1); the dense baseline comes by itself. methods: by which each is pruned.
    engines: in which each runs; all but torch compute in float32 on the CPU, and torch then with them.
    compact: take dead channels out of each level.
    batch_sizes: at which latency is measured; none to leave it out. bootstrap: how many times the images
    are drawn anew to tell how far differences of AP are theirs; 0 to leave it out.
    """

    amounts: Sequence[float]
    methods: Sequence[Method] = (Method(),)
    batch_sizes: Sequence[int] = (1, 32)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    engines: Sequence[str] = (TORCH,)
    compact: bool = False
    rounds: Rounds = field(default_factory=Rounds)
    bootstrap: int = BOOTSTRAP

    def __post_init__(self) -> None:
        """Keep the sequences as tuples. Raise InputError for a value out of range."""
        if isinstance(self.amounts, Real):
            raise InputError(f"amounts is {self.amounts!r}; a list of fractions is expected")
        for name in ("amounts", "methods", "batch_sizes", "engines"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.engines:
            raise InputError(f"--engines is empty; one or more of {', '.join(ENGINES)} are expected")
        for engine in sorted(self.engines, key=lambda name: name == TORCH):
            # Those that are no torch come first and put all on the CPU.
            object.__setattr__(self, "validation", replace(self.validation, engine=engine))
        self.plan()
        if not isinstance(self.bootstrap, Integral) or self.bootstrap < 0:
            raise InputError(f"--bootstrap is {self.bootstrap!r}; 0 (off) or more resamples are expected")
        for size in self.batch_sizes:
            if not isinstance(size, Integral) or not 1 <= size <= MOST_BATCH:
                raise InputError(
                    f"--batch-sizes: {size!r}; whole numbers from 1 to {MOST_BATCH} are expected"
                )
        object.__setattr__(self, "batch_sizes", tuple(int(size) for size in self.batch_sizes))
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            raise InputError("--batch-sizes: a size is named twice")

    def plan(self) -> tuple[Level, ...]:
        """The levels."""
        return plan(self.amounts, self.methods, self.engines)


def sweep(
    network: Network,
    data: str | PathLike[str] | Dataset,
    amounts: Sequence[float],
    *,
    scopes: Sequence[str] = ("layer",),
    methods: Sequence[Method] | None = None,
    pruner: Pruner | None = None,
    settings: ValidationSettings | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    engines: Sequence[str] = (TORCH,),
    compact: bool = False,
    bootstrap: int = BOOTSTRAP,
    folder: str | PathLike[str] | None = None,
    weights: str = "",
    progress: bool = False,
) -> pd.DataFrame:
    """Validate the network at every amount of sparsity in one pass over the images, and time it.

    network: as load gives it, fused; copies of it are pruned. data: as for validate.
    amounts: fractions in [0, 1); the dense baseline comes first by itself. scopes: by magnitude, "layer",
    "global", "lamp", "erk". methods: instead of scopes, such as Method("obs", "measured").
    pruner: one of the network, with calibration images where methods need them, layers to keep, a pattern.
    batch_sizes: at which latency is measured; () to leave it out.
    engines: in which each level is validated and timed: torch, onnxruntime, openvino, sparse.
    compact: take dead channels out of each level; see compacting.compact.
    bootstrap: how many times the images are drawn anew for the intervals of AP; 0 to leave it out.
    folder: where each finished level is kept; a sweep that was begun there goes on. None keeps nothing.
    weights: what the rows call the network.
    Returns a row per method and amount; rows.make_frame tells the columns.
    Raises InputError where something can't be used, or folder holds a sweep with other settings.
    """
    if methods is None:
        methods = [Method("l1", scope) for scope in scopes]
    settings = settings or ValidationSettings()
    wanted = SweepSettings(amounts, methods, batch_sizes, settings, engines, compact, bootstrap=bootstrap)
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-"))
        place = Path(folder)
        return run_sweep(
            network, data, wanted, place, pruner=pruner, weights=weights, progress=progress
        ).frame


def run_sweep(
    network: Network,
    data: str | PathLike[str] | Dataset,
    wanted: SweepSettings,
    folder: Path,
    *,
    pruner: Pruner | None = None,
    weights: str = "",
    command: str = "",
    title: str = "",
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_level: Callable[[Metrics, AveragePrecision], None] = lambda _metrics, _own: None,
    then: Callable[[Sweep], None] = lambda _sweep: None,
) -> Sweep:
    """As sweep, with all that a report needs.

    command, title: kept with the figures. then: takes the finished sweep while no other one can get into
    the folder. say: takes lines of news. on_level: takes each level when it is finished,
    with its own metric by class.
    """
    pruner = pruner or Pruner(network, progress=progress)
    if pruner.network is not network:
        raise InputError("the pruner's network is another one; a pruner of the network itself is expected")
    settings = fit(wanted.validation, network)
    device = select_device(settings.device)
    levels = wanted.plan()
    for level in levels:
        if level.amount:
            pruner.check(level.method, level.amount)
    if not isinstance(data, Dataset):
        data = read_dataset(data, network.names, single_cls=settings.single_cls, progress=progress)
    about = {
        "weights": weights,
        "data": data.name,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "title": title,
        "environment": describe_environment(device),
    }
    store = Store(folder)
    with store.locked():
        identity = _identity(pruner, data, wanted, settings)
        about = store.begin(identity, about)
        with writing_into(folder):
            write_annotations(folder, data.annotations)
        with Lanes(device) as lanes:
            job = _Job(pruner, data, wanted, settings, levels, store, about, progress, say, on_level)
            job.run(Copies(pruner, levels, lanes, settings, say, compact=wanted.compact))
        result = _collect(store, levels, wanted, settings, about, identity, progress)
        then(result)
        store.clear()
    return result


@dataclass
class _Job:
    """A sweep at work."""

    pruner: Pruner
    dataset: Dataset
    wanted: SweepSettings
    settings: ValidationSettings
    levels: tuple[Level, ...]
    store: Store
    about: dict[str, Any]
    progress: bool
    say: Callable[[str], None]
    on_level: Callable[[Metrics, AveragePrecision], None]

    def run(self, copies: Copies) -> None:
        """Measure what the store doesn't hold yet."""
        missing = [level for level in self.levels if self.store.finished(level) is None]
        untimed = [size for size in self.wanted.batch_sizes if self.store.latency(size, self.levels) is None]
        if len(missing) < len(self.levels):
            self.say(f"{len(self.levels) - len(missing)} of {len(self.levels)} levels are there already")
        groups = copies.groups(missing)
        if missing:
            self.say(_describe_passes(copies, groups, len(self.dataset.images)))
        work = len(missing) * len(self.dataset.images)
        with progress_bar(total=work, unit="img", shown=self.progress, smoothing=0.1, leave=False) as bar:
            self._time(copies, untimed, bar)
            self._validate(copies, groups, bar)
            self._match(bar)

    def _time(self, copies: Copies, sizes: Sequence[int], bar: Any) -> None:
        """Latency first, while nothing else runs."""
        for size in sizes:
            bar.set_description(f"Latency, batch {size}")
            counted, total = bar.n, bar.total

            def tick(done: int, todo: int, counted: int = counted, total: int = total) -> None:
                bar.total = total + todo
                bar.update(counted + done - bar.n)

            imgsz = self.settings.imgsz
            times = time_levels(copies, self.levels, size, imgsz, self.wanted.rounds, tick)
            self.store.write_latency(size, times)

    def _validate(self, copies: Copies, groups: Sequence[Sequence[Level]], bar: Any) -> None:
        """Pass by pass; a pass's evaluations run beside the next."""
        if not groups:
            return
        annotations = self._annotations()
        pending: list[Future[None]] = []
        copies.get(groups[0])  # they take memory before evaluations may
        pool = ThreadPoolExecutor(self._evaluations_at_a_time(), thread_name_prefix="pycocotools")
        try:
            for group in groups:
                bar.set_description("Validating")
                made = copies.get(group)
                network = self.pruner.network
                outcomes = detect_levels(made, network, self.dataset, self.settings, self.store, bar.update)
                for level in group:
                    evaluator, seconds = outcomes.pop(level)
                    pending.append(self._submit(pool, level, made[level], evaluator, seconds, annotations))
                    for future in pending:
                        if future.done():
                            future.result()
            bar.set_description("Evaluating")
            for future in pending:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        level: Level,
        made: Copy,
        evaluator: Evaluator,
        seconds: PhaseSeconds,
        annotations: Path,
    ) -> Future[None]:
        """Write a level's detections and have pycocotools look at them."""
        start = time.perf_counter()
        with writing_into(self.store.folder):
            folder = self.store.level_folder(level)
            write_json(folder / "predictions.json", evaluator.predictions())
            write_layers(folder, made.layers)
        own = evaluator.own()
        spent = time.perf_counter() - start + seconds.total
        return pool.submit(self._finish, level, made, own, seconds, annotations, spent)

    def _finish(
        self,
        level: Level,
        made: Copy,
        own: AveragePrecision,
        seconds: PhaseSeconds,
        annotations: Path,
        spent: float,
    ) -> None:
        start = time.perf_counter()
        figures = self._evaluate(level, annotations)
        method = level.method
        origin = Origin(
            self.about["weights"],
            method.scope,
            level.amount,
            method.criterion,
            **self.pruner.rules,
            channels_removed=made.channels_removed,
        )
        dataset, settings = self.dataset, self.settings
        metrics = make_metrics(origin, dataset, settings, made.counted, own, figures, made.detector, seconds)
        self.store.finish(
            level, Finished(metrics, made.sizes, spent + time.perf_counter() - start, made.seconds)
        )
        self.on_level(metrics, own)

    def _evaluate(self, level: Level, annotations: Path) -> CocoFigures:
        return processes.evaluate_files(
            annotations,
            self.store.level_folder(level) / "predictions.json",
            image_ids=self.dataset.image_ids,
            category_ids=counted_categories(self.dataset, self.settings),
            matched=self.store.matched_path(level) if self.wanted.bootstrap else None,
        )

    def _match(self, bar: Any) -> None:
        """Match the detections of levels that were finished without, where images are to be resampled."""
        if not self.wanted.bootstrap:
            return
        unmatched = [level for level in self.levels if not is_matched(self.store, level)]
        if not unmatched:
            return
        bar.set_description("Evaluating")
        annotations = self._annotations()
        with ThreadPoolExecutor(self._evaluations_at_a_time(), thread_name_prefix="pycocotools") as pool:
            for _ in pool.map(lambda level: self._evaluate(level, annotations), unmatched):
                pass

    def _annotations(self) -> Path:
        """A file of what pycocotools looks at in the data set's annotations."""
        path = self.store.scratch("annotations.json")
        if not path.exists():
            with writing_into(self.store.folder):
                write_json(path, _evaluated(self.dataset.annotations.content))
        return path

    def _evaluations_at_a_time(self) -> int:
        most = len(self.dataset.images) * self.settings.max_det * processes.BYTES_PER_RESULT
        fitting = free_memory(torch.device("cpu")) // 2 // (most + processes.BYTES_PER_PROCESS)
        return int(max(1, min(usable_cores(), fitting)))


def _evaluated(content: dict[str, Any]) -> dict[str, Any]:
    """COCO annotations without what pycocotools doesn't look at, such as outlines."""
    rows = [{key: row[key] for key in _EVALUATED if key in row} for row in content["annotations"]]
    return {"images": content["images"], "categories": content["categories"], "annotations": rows}


def _describe_passes(copies: Copies, groups: Sequence[Sequence[Level]], images: int) -> str:
    return (
        f"{len(groups[0])} networks in memory at a time ({copies.copy_bytes / 2**30:.2f} GiB each, "
        f"{copies.free_bytes / 2**30:.1f} GiB free): {len(groups)} pass{'es' * (len(groups) > 1)} "
        f"over {images} images"
    )


def _identity(
    pruner: Pruner,
    dataset: Dataset,
    wanted: SweepSettings,
    settings: ValidationSettings,
) -> dict[str, Any]:
    """What two sweeps must share to be one."""
    return {
        "amounts": sorted({level.amount for level in wanted.plan()}),
        "engines": [f"{name} {package_version(PACKAGES[name])}" for name in dict.fromkeys(wanted.engines)],
        "compact": wanted.compact,
        "methods": [method.label for method in dict.fromkeys(wanted.methods)],
        **pruner.identity(wanted.methods),
        "batch_sizes": list(wanted.batch_sizes),
        **describe_setup(pruner.network, dataset, settings),
    }


def _collect(
    store: Store,
    levels: Sequence[Level],
    wanted: SweepSettings,
    settings: ValidationSettings,
    about: dict[str, Any],
    identity: dict[str, Any],
    progress: bool,
) -> Sweep:
    """The store's levels as one table."""
    loads = len(levels) + 1
    with progress_bar(total=loads, desc="Resampling", unit="level", shown=progress, leave=False) as bar:
        resampled = resample(store, levels, wanted.bootstrap, bar.update)
    latencies = {size: store.latency(size, levels) or [] for size in wanted.batch_sizes}
    rows = [_row(store, level, latencies, change(resampled, level)) for level in levels]
    setup = {
        "bootstrap": wanted.bootstrap,
        "max_det": settings.max_det,
        "single_cls": settings.single_cls,
        "threads": about["environment"]["threads"],
        "started": about["started"],
    }
    layers = []
    for method in dict.fromkeys(wanted.methods):
        for level in (one for one in levels if one.engine == levels[0].engine):
            if not level.amount or level.method == method:
                one = read_layers(store.level_folder(level))
                layers.append(one.assign(method=method.label, amount=level.amount))
    return Sweep(
        make_frame(rows, setup),
        pd.concat(layers, ignore_index=True),
        about,
        identity,
        differences(resampled, levels),
    )


def _row(
    store: Store,
    level: Level,
    latencies: dict[int, list[dict[str, list[float]]]],
    interval: Interval | None,
) -> SweepRow:
    done = store.finished(level)
    assert done is not None, f"{level.key} was just finished"
    latency = {}
    for size, groups in latencies.items():
        group = next(times for times in groups if level.key in times)
        latency[size] = summarize(group[level.key]), summarize(group[level.dense.key])
    return SweepRow(done.metrics, done.sizes, done.seconds, latency, done.prune_seconds, interval)
