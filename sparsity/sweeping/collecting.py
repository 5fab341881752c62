"""Read the finished levels of a sweep's folder into one table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from sparsity.base.progress import progress_bar
from sparsity.engines.table import ENGINES
from sparsity.evaluation.bootstrap import Interval
from sparsity.pruning.method import Method
from sparsity.sweeping.intervals import change, differences, resample
from sparsity.sweeping.level import Level
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.stages import ONE_SHOT
from sparsity.sweeping.store import Store
from sparsity.sweeping.table import Legend, Sweep, SweepRow, make_frame
from sparsity.timing.latency import summarize
from sparsity.validation.run_files import read_layers
from sparsity.validation.settings import ValidationSettings


def collect(
    store: Store,
    levels: Sequence[Level],
    wanted: SweepSettings,
    settings: ValidationSettings,
    about: dict[str, Any],
    identity: dict[str, Any],
    progress: bool,
) -> Sweep:
    """Return the finished levels of the store as one Sweep."""
    loads = len(levels) + 1
    with progress_bar(total=loads, desc="Resampling", unit="level", shown=progress, leave=False) as bar:
        resampled = resample(store, levels, wanted.bootstrap, bar.update)
    timed = [level for level in levels if level.stage == ONE_SHOT]
    latencies = {size: store.latency(size, timed) or [] for size in wanted.batch_sizes}
    dense_keys = {level.dense.key for level in levels}
    rows = [_row(store, level, latencies, change(resampled, level), dense_keys) for level in levels]
    setup = {
        "bootstrap": wanted.bootstrap,
        "max_det": settings.max_det,
        "single_cls": settings.single_cls,
        "threads": about["environment"]["threads"],
        "started": about["started"],
        **{f"latency_device_b{size}": store.latency_device(size) for size in wanted.batch_sizes},
    }
    layers = []
    for method in dict.fromkeys(wanted.methods):
        for level in (one for one in timed if one.engine == levels[0].engine):
            if not level.amount or level.method == method:
                one = read_layers(store.level_folder(level))
                layers.append(one.assign(method=method.label, amount=level.amount))
    return Sweep(
        make_frame(rows, setup),
        pd.concat(layers, ignore_index=True),
        about,
        identity,
        make_legend(wanted.methods, wanted.engines),
        differences(resampled, levels),
    )


def make_legend(methods: Sequence[Method], engines: Sequence[str]) -> Legend:
    """Return the titles of the criteria and engines of a sweep."""
    classes = {name: ENGINES[name] for name in engines}
    return Legend(
        {method.name: method.resolved.title for method in methods},
        {name: engine.title for name, engine in classes.items()},
        frozenset(name for name, engine in classes.items() if engine.skips_zeros),
    )


def _row(
    store: Store,
    level: Level,
    latencies: dict[int, list[dict[str, list[float]]]],
    interval: Interval | None,
    dense_keys: Collection[str],
) -> SweepRow:
    done = store.finished(level)
    assert done is not None, f"{level.key} is finished before it is collected"
    latency, best_dense = {}, {}
    for size, groups in latencies.items():
        # A fine-tuned level has the zeros of the one-shot level, and so its latency.
        key = level.one_shot.key
        group = next(times for times in groups if key in times)
        latency[size] = summarize(group[key]), summarize(group[level.dense.key])
        best_dense[size] = min(summarize(group[key]).median for key in dense_keys)
    return SweepRow(
        method=level.method,
        metrics=done.metrics,
        sizes=done.sizes,
        seconds=done.seconds,
        latency=latency,
        prune_seconds=done.prune_seconds,
        change=interval,
        best_dense=best_dense,
        stage=level.stage,
        train_seconds=done.train_seconds,
    )
