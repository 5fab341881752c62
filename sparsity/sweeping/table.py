"""The rows of a sweep: what every level's figures come to, beside the dense one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from sparsity.evaluation.bootstrap import Interval
from sparsity.formats.sizes import Sizes
from sparsity.pruning.method import Method
from sparsity.timing.latency import Latency
from sparsity.validation.metrics import Metrics


@dataclass(frozen=True)
class SweepRow:
    """One level: its figures, the seconds it took, and by batch size its latency and the dense one's.

    The dense latency is that of the group of levels in which the level took its turns. prune_seconds: what
    pruning took. change: AP minus the dense one's over resampled images, None where that was left out.
    """

    method: Method
    metrics: Metrics
    sizes: Sizes
    seconds: float
    latency: Mapping[int, tuple[Latency, Latency]]
    prune_seconds: float = 0.0
    change: Interval | None = None

    @property
    def engine(self) -> str:
        """What ran it."""
        return self.metrics.engine


@dataclass(frozen=True)
class Legend:
    """What reports call things: criteria and engines by name -> title, and which engines skip zeros."""

    criteria: Mapping[str, str]
    engines: Mapping[str, str]
    skipping: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    frame: a row per method and amount (see make_frame). layers: method, amount, name, weights, zeros,
    sparsity of every Conv2d. about: started, command, environment. settings: what it was asked for.
    differences: amount, method, other, and AP of the method minus that of the other at that amount:
    difference, the interval's low and high, share_above; no row where images were not resampled.
    legend: titles for reports.
    """

    frame: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    about: dict[str, Any]
    settings: dict[str, Any]
    legend: Legend
    differences: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)


def make_frame(rows: Sequence[SweepRow], setup: Mapping[str, Any]) -> pd.DataFrame:
    """The levels as a table: for each engine, for each method the dense row, then its amounts.

    rows: those of amount 0 are the dense ones, one an engine.
    Columns: method, its label; those of Metrics; latency_ms_bN, the median milliseconds of a batch of N; its
    percentiles latency_p10_ms_bN and latency_p90_ms_bN; the same three as latency_dense... of the dense
    network in the same engine that took turns with it (where not all levels fit into memory, each group has
    its own); speedup_bN, that dense median over this; AP_drop, dense minus this; where images were resampled,
    AP_change_low and AP_change_high, 95% of AP minus the dense one, and AP_share_above, how often that is
    above 0; the columns of Sizes; prune_seconds; seconds; setup. The dense row is the same under each method:
    it was measured once.
    """
    records = []
    for engine in dict.fromkeys(row.engine for row in rows):
        dense, *others = (row for row in rows if row.engine == engine)
        for method in dict.fromkeys(row.method for row in others or [dense]):
            names = {"criterion": method.name, "scope": method.scope}
            first = replace(dense, method=method, metrics=replace(dense.metrics, **names))
            of_method = [first, *(row for row in others if row.method == method)]
            records += [_record(row, dense.metrics) | dict(setup) for row in of_method]
    return pd.DataFrame.from_records(records)


def by_method(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each method, in the first engine."""
    first = frame[frame.engine == frame.engine.iloc[0]]
    return list(first.groupby("method", sort=False))


def by_series(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each method in each engine, under names that tell what differs."""
    if frame.engine.nunique() == 1:
        return by_method(frame)
    several = frame.method.nunique() > 1
    groups = frame.groupby(["method", "engine"], sort=False)
    return [(f"{method}, {engine}" if several else engine, rows) for (method, engine), rows in groups]


def batch_sizes(frame: pd.DataFrame) -> list[int]:
    """The batch sizes whose latency a frame holds."""
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
        "AP_drop": dense.AP - row.metrics.AP,
        **_change(row.change),
        **asdict(row.sizes),
        "prune_seconds": row.prune_seconds,
        "seconds": row.seconds,
        **{f"latency_runs_b{size}": one.runs for size, one in times.items()},
    }


def _change(interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {}
    return {
        "AP_change_low": interval.low,
        "AP_change_high": interval.high,
        "AP_share_above": interval.share_above,
    }
