"""The rows of a sweep: the figures of each level, compared with the dense network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from sparsity.evaluation.bootstrap import Interval
from sparsity.formats.sizes import Sizes
from sparsity.pruning.budgets import LATENCY
from sparsity.pruning.method import Method
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT, staged
from sparsity.timing.latency import Latency
from sparsity.validation.metrics import Metrics

STAGE = "stage"
"""The column of the stage. Only sweeps with training have it; all rows of others are one-shot."""
LEAST_AP = 0.01
"""Below this dense AP, shares of it are chance: nothing is said of them, and no level is the best one."""


@dataclass(frozen=True)
class SweepRow:
    """The figures of one level.

    seconds: the time that the level took, without pruning. prune_seconds: the time of pruning. latency: batch
    size -> the latency of the level, and that of the dense network in the same group of levels that took
    turns. best_dense: batch size -> the median of the dense network in its fastest engine, in that group;
    without it, the median in the level's own engine is taken. change: AP minus dense AP over resampled
    images; None if nothing was resampled. stage: one-shot, or fine-tuned, whose latency is that of the
    one-shot level. train_seconds: the time of training.
    """

    method: Method
    metrics: Metrics
    sizes: Sizes
    seconds: float
    latency: Mapping[int, tuple[Latency, Latency]]
    prune_seconds: float = 0.0
    change: Interval | None = None
    best_dense: Mapping[int, float] = field(default_factory=dict)
    stage: str = ONE_SHOT
    train_seconds: float = 0.0

    @property
    def engine(self) -> str:
        """The name of the engine that ran the level."""
        return self.metrics.engine


@dataclass(frozen=True)
class Legend:
    """Titles for reports. criteria, engines: name -> title. skipping: the engines that skip zeros."""

    criteria: Mapping[str, str]
    engines: Mapping[str, str]
    skipping: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    frame: a row for each method and amount (see make_frame). layers: method, amount, name, weights, zeros,
    sparsity of every Conv2d. about: weights, data, title, started, command, environment. settings: those
    that must be equal to resume the sweep. legend: titles for reports.
    differences: amount, method, other, and AP of the method minus AP of the other at that amount: difference,
    low and high (its interval), share_above. It has no rows if images were not resampled.
    """

    frame: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    about: dict[str, Any]
    settings: dict[str, Any]
    legend: Legend
    differences: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)


def make_frame(rows: Sequence[SweepRow], setup: Mapping[str, Any]) -> pd.DataFrame:
    """Return the levels as a table: for each engine and method, the dense row and then the amounts.

    rows: one row of amount 0, the dense one, for each engine; then the others. setup: columns that are the
    same in all rows.

    Columns:
    - method: the method's label.
    - The fields of Metrics.
    - latency_ms_bN, latency_p10_ms_bN, latency_p90_ms_bN: the median and the percentiles, in milliseconds,
      for a batch of N.
    - latency_dense_ms_bN, latency_dense_p10_ms_bN, latency_dense_p90_ms_bN: the same of the dense network in
      the same engine that took turns with this level. If memory cannot hold all levels, each group of levels
      has its own dense network.
    - speedup_bN: that dense median divided by this median.
    - speedup_over_best_dense_bN: the median of the dense network in its fastest engine of the sweep, divided
      by this median. This is what pruning gives to someone who can choose the engine.
    - AP_drop: dense AP minus this AP.
    - AP_change_low, AP_change_high: the 95% interval of AP minus dense AP. AP_share_above: the share of
      resamples in which it is above 0. All three only if images were resampled.
    - The fields of Sizes; prune_seconds; seconds.
    - latency_runs_bN: the number of timed runs. latency_device_bN: the name of what was timed.
    - setup.
    - stage, train_seconds: only if a row is fine-tuned.

    The dense row is the same for each method and stage: it was measured once.
    """
    records, trained = [], any(row.stage == FINE_TUNED for row in rows)
    for engine in dict.fromkeys(row.engine for row in rows):
        dense, *others = (row for row in rows if row.engine == engine)
        for method, stage in dict.fromkeys((row.method, row.stage) for row in others or [dense]):
            names = {"criterion": method.name, "scope": method.scope, "budget": method.budget}
            predicted = dense.metrics.predicted_ms if method.budget == LATENCY else None
            metrics = replace(dense.metrics, **names, predicted_ms=predicted)
            first = replace(dense, method=method, stage=stage, metrics=metrics)
            series = [first, *(row for row in others if (row.method, row.stage) == (method, stage))]
            records += [
                _record(row, dense.metrics) | dict(setup) | (_training(row) if trained else {})
                for row in series
            ]
    return pd.DataFrame.from_records(records).astype({"predicted_ms": float})


def with_stages(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the stage in the name of the method, as reports have it: obs, fine-tuned."""
    if STAGE not in frame:
        return frame
    names = [staged(method, stage) for method, stage in zip(frame.method, frame[STAGE], strict=True)]
    return frame.assign(method=names)


def timed_once(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose latency was measured: without the fine-tuned ones, which share it."""
    return frame[frame[STAGE] != FINE_TUNED] if STAGE in frame else frame


def by_method(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (label, rows) of each method, in the first engine."""
    first = frame[frame.engine == frame.engine.iloc[0]]
    return list(first.groupby("method", sort=False))


def by_series(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (name, rows) of each method in each engine. The name says only what differs."""
    if frame.engine.nunique() == 1:
        return by_method(frame)
    several = frame.method.nunique() > 1
    groups = frame.groupby(["method", "engine"], sort=False)
    return [(f"{method}, {engine}" if several else engine, rows) for (method, engine), rows in groups]


def batch_sizes(frame: pd.DataFrame) -> list[int]:
    """Return the batch sizes whose latency is in the frame."""
    start = "latency_ms_b"
    return [int(name.removeprefix(start)) for name in frame.columns if name.startswith(start)]


def _record(row: SweepRow, dense: Metrics) -> dict[str, Any]:
    times = {size: own for size, (own, _) in row.latency.items()}
    return {
        "method": row.method.label,
        **asdict(row.metrics),
        **{f"latency_ms_b{size}": one.median for size, one in times.items()},
        **{f"latency_p10_ms_b{size}": one.p10 for size, one in times.items()},
        **{f"latency_p90_ms_b{size}": one.p90 for size, one in times.items()},
        **{f"latency_dense_ms_b{size}": base.median for size, (_, base) in row.latency.items()},
        **{f"latency_dense_p10_ms_b{size}": base.p10 for size, (_, base) in row.latency.items()},
        **{f"latency_dense_p90_ms_b{size}": base.p90 for size, (_, base) in row.latency.items()},
        **{f"speedup_b{size}": base.median / own.median for size, (own, base) in row.latency.items()},
        **{f"speedup_over_best_dense_b{size}": _over_best(row, size) for size in row.latency},
        "AP_drop": dense.AP - row.metrics.AP,
        **_change(row.change),
        **asdict(row.sizes),
        "prune_seconds": row.prune_seconds,
        "seconds": row.seconds,
        **{f"latency_runs_b{size}": one.runs for size, one in times.items()},
    }


def _training(row: SweepRow) -> dict[str, Any]:
    return {STAGE: row.stage, "train_seconds": row.train_seconds}


def _over_best(row: SweepRow, size: int) -> float:
    own, base = row.latency[size]
    return row.best_dense.get(size, base.median) / own.median


def _change(interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {
        "AP_change_low": interval.low,
        "AP_change_high": interval.high,
        "AP_share_above": interval.share_above,
    }
