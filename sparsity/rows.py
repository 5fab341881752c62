"""The rows of a sweep: what every level's figures come to, beside the dense one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from sparsity.latency import Latency
from sparsity.metrics import Metrics


@dataclass(frozen=True)
class SweepRow:
    """One level: its figures, the seconds it took, and by batch size its latency and the dense one's.

    The dense latency is that of the group of levels in which the level took its turns.
    """

    metrics: Metrics
    seconds: float
    latency: Mapping[int, tuple[Latency, Latency]]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    frame: a row per scope and amount (see make_frame). layers: scope, amount, name, weights, zeros,
    sparsity of every Conv2d. about: started, command, environment. settings: what it was asked for.
    """

    frame: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    about: dict[str, Any]
    settings: dict[str, Any]


def make_frame(dense: SweepRow, others: Sequence[SweepRow], setup: Mapping[str, Any]) -> pd.DataFrame:
    """The levels as a table: for each scope the dense row, then its amounts.

    Columns: those of Metrics; latency_ms_bN, the median milliseconds of a batch of N; its percentiles
    latency_p10_ms_bN and latency_p90_ms_bN; the same three as latency_dense... of the dense network that
    took turns with it (where not all levels fit into memory, each group has its own); speedup_bN, that
    dense median over this; AP_drop, dense minus this;
    seconds; setup. The dense row is the same under each scope: it was measured once.
    """
    scopes = dict.fromkeys(row.metrics.scope for row in others) or {dense.metrics.scope: None}
    records = []
    for scope in scopes:
        first = replace(dense, metrics=replace(dense.metrics, scope=scope))
        of_scope = [first, *(row for row in others if row.metrics.scope == scope)]
        records += [_record(row, dense.metrics) | dict(setup) for row in of_scope]
    return pd.DataFrame.from_records(records)


def batch_sizes(frame: pd.DataFrame) -> list[int]:
    """The batch sizes whose latency a frame holds."""
    start = "latency_ms_b"
    return [int(name.removeprefix(start)) for name in frame.columns if name.startswith(start)]


def _record(row: SweepRow, dense: Metrics) -> dict[str, Any]:
    times = {size: own for size, (own, _) in row.latency.items()}
    return {
        **asdict(row.metrics),
        **{f"latency_ms_b{size}": one.median for size, one in times.items()},
        **{f"latency_p10_ms_b{size}": one.p10 for size, one in times.items()},
        **{f"latency_p90_ms_b{size}": one.p90 for size, one in times.items()},
        **{f"latency_dense_ms_b{size}": base.median for size, (_, base) in row.latency.items()},
        **{f"latency_dense_p10_ms_b{size}": base.p10 for size, (_, base) in row.latency.items()},
        **{f"latency_dense_p90_ms_b{size}": base.p90 for size, (_, base) in row.latency.items()},
        **{f"speedup_b{size}": base.median / own.median for size, (own, base) in row.latency.items()},
        "AP_drop": dense.AP - row.metrics.AP,
        "seconds": row.seconds,
        **{f"latency_runs_b{size}": one.runs for size, one in times.items()},
    }
