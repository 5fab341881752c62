"""Sentences about the figures of a sweep. Every number is computed from its frame."""

from __future__ import annotations

import pandas as pd

from sparsity.report.fastest import KEPT, fastest
from sparsity.report.noise import is_faster, is_slower
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT
from sparsity.sweeping.table import (
    LEAST_AP,
    STAGE,
    Legend,
    Sweep,
    batch_sizes,
    by_method,
    timed_once,
    with_stages,
)

ALLOCATIONS = {
    "layer": "the same sparsity in each layer",
    "global": "allocated over all layers together",
    "lamp": "allocated by LAMP scores",
    "erk": "allocated by Erdos-Renyi kernel densities",
    "measured": "allocated by the measured cost of each layer",
}
"""Scope -> its description in a sentence."""
BUDGETS = {
    "weights": "",
    "flops": "; its sparsity is the share of multiply-adds",
    "latency": "; its sparsity is the share of time",
}
"""Budget -> what the description of a method adds."""
UNSTEADY = 2.0
"""Timing is too unsteady to show small gains if the 90th percentile divided by the 10th (the median of the
levels) is above this."""
SAME_SIZE = 0.98
"""A file of less than this share of the dense one is smaller, which zeros do not make a .pt."""
SAME_AP = 0.002
"""A larger difference in AP between two engines is flagged."""


def findings(sweep: Sweep) -> list[str]:
    """Return sentences: the accuracy that each method keeps, differences between methods, sizes and speed."""
    frame = with_stages(sweep.frame)
    dense = frame[frame.amount == 0].iloc[0]
    sentences = [f"Dense: AP {dense.AP:.3f}, AP50 {dense.AP50:.3f} on {dense.images} images."]
    for _, rows in by_method(frame):
        pruned = rows[rows.amount > 0]
        if len(pruned):
            sentences += _kept(pruned, dense, sweep.legend)
    sentences += _gained(sweep.frame)
    sentences += _beyond_chance(sweep.differences)
    pruned = frame[frame.amount > 0]
    if len(pruned) and dense.AP >= LEAST_AP:
        sentences += [fastest(frame, size) for size in batch_sizes(frame)]
    if len(pruned):
        sentences.append(_size(pruned, dense))
    engines = list(frame.groupby("engine", sort=False))
    if len(engines) > 1:
        sentences += [_same_answers(engines[0][1], rows) for _, rows in engines[1:]]
        sentences += [_engine_speed(frame, size) for size in batch_sizes(frame)]
    for _, rows in engines:
        pruned = timed_once(rows[rows.amount > 0])
        if len(pruned):
            name = f", {rows.engine.iloc[0]}" if len(engines) > 1 else ""
            sentences += [
                _speed(pruned, rows.iloc[0], size, name, sweep.legend) for size in batch_sizes(frame)
            ]
    return sentences


def _size(pruned: pd.DataFrame, dense: pd.Series) -> str:
    """Return the size of the smallest file beside the dense one, and that zeros do not make a .pt smaller."""
    row = pruned.loc[pruned.size_safetensors_mb.idxmin()]
    removed = f"; {row.channels_removed} dead channels are removed" if row.channels_removed else ""
    return (
        f"Files: the dense .pt has {dense.size_dense_mb:.2f} MB, the compressed form (.safetensors) "
        f"{dense.size_safetensors_mb:.2f} MB. At {row.amount:.9g} ({row.method}) the .pt "
        f"{_size_of_pt(row, dense)}. The compressed "
        f"form has {row.size_safetensors_mb:.2f} MB ({row.size_dense_mb / row.size_safetensors_mb:.1f} times "
        f"smaller than the dense .pt){removed}."
    )


def _size_of_pt(row: pd.Series, dense: pd.Series) -> str:
    if row.size_pt_mb < SAME_SIZE * dense.size_dense_mb:
        return f"has {row.size_pt_mb:.2f} MB"
    return f"still has {row.size_pt_mb:.2f} MB, because a zero takes as much space as any other number"


def _same_answers(first: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Return how far AP in an engine differs from AP in the first engine, over all levels."""
    one, other = first.engine.iloc[0], rows.engine.iloc[0]
    gaps = rows.assign(gap=rows.AP.to_numpy() - first.AP.to_numpy())
    off = gaps[gaps.gap.abs() > SAME_AP].drop_duplicates(["method", "amount"])
    if off.empty:
        return f"AP in {other} differs from AP in {one} by at most {gaps.gap.abs().max():.4f} at every level."
    levels = ", ".join(f"{row.method} {row.amount:.9g} ({row.gap:+.3f})" for row in off.itertuples())
    return f"WARNING: AP in {other} differs from AP in {one} by more than {SAME_AP}: {levels}."


def _engine_speed(frame: pd.DataFrame, size: int) -> str:
    """Return the latency of the dense network in each engine."""
    dense = frame[frame.amount == 0].drop_duplicates("engine")
    times = dict(zip(dense.engine, dense[f"latency_ms_b{size}"], strict=True))
    first = next(iter(times.values()))
    latencies = ", ".join(f"{engine} {ms:.1f} ms ({first / ms:.2f}x)" for engine, ms in times.items())
    return f"Batch {size}, the dense network in each engine: {latencies}."


def _gained(frame: pd.DataFrame) -> list[str]:
    """Return, for each method, what training changes at each level, in the first engine; [] without it."""
    if STAGE not in frame:
        return []
    lines = []
    for method, rows in by_method(frame[frame.amount > 0]):
        aps = rows.pivot_table(index="amount", columns=STAGE, values="AP")
        gains = aps[FINE_TUNED] - aps[ONE_SHOT]
        levels = ", ".join(f"{gain:+.3f} at {amount:.9g}" for amount, gain in gains.items())
        lines.append(f"{method}: fine-tuning changes AP by {levels}.")
    return lines


def _kept(rows: pd.DataFrame, dense: pd.Series, legend: Legend) -> list[str]:
    first = rows.iloc[0]
    how = f"{legend.criteria[first.criterion]}, {ALLOCATIONS[first.scope]}{BUDGETS[first.budget]}"
    name = f"{first.method} ({how})"
    if not dense.AP >= LEAST_AP:
        return [
            f"{name}: the dense network has AP {dense.AP:.3f} here, below {LEAST_AP}, so nothing can be told "
            "about how much of it pruning keeps."
        ]
    best = {share: rows[rows.AP.ge(share * dense.AP)] for share in KEPT}
    lines = []
    missed = [share for share in KEPT if best[share].empty]
    if missed:
        least = rows.loc[rows.amount.idxmin()]
        lines.append(
            f"{name}: no tested sparsity keeps {missed[-1]:.0%} of the dense AP; the smallest, "
            f"{least.amount:.9g}, keeps {least.AP / dense.AP:.1%} (AP {least.AP:.3f})."
        )
    for share in KEPT[len(missed) :]:
        row = best[share].loc[best[share].amount.idxmax()]
        lines.append(
            f"{name}: the largest sparsity that keeps {share:.0%} of the dense AP is {row.amount:.9g} "
            f"(AP {row.AP:.3f}, {row.AP / dense.AP:.1%})."
        )
    return lines


def _beyond_chance(differences: pd.DataFrame) -> list[str]:
    """Return, for each amount, the differences between methods whose interval excludes 0."""
    lines = []
    for amount, rows in differences.groupby("amount") if len(differences) else ():
        above: dict[str, list[str]] = {}
        for row in rows.itertuples():
            if row.low > 0 or row.high < 0:
                better, worse = (row.method, row.other) if row.low > 0 else (row.other, row.method)
                above.setdefault(better, []).append(worse)
        order = "; ".join(f"{better} is above {', '.join(worse)}" for better, worse in above.items())
        order = order or "none"
        lines.append(f"Sparsity {amount:.9g}, differences in AP whose 95% interval excludes 0: {order}.")
    return lines


def _speed(rows: pd.DataFrame, dense: pd.Series, size: int, engine: str, legend: Legend) -> str:
    """Return which levels are faster or slower than the dense network by more than both spreads."""
    median, p10, p90 = (f"latency{part}_ms_b{size}" for part in ("", "_p10", "_p90"))
    base = f"{dense[median]:.1f} ms (median; 10th to 90th percentile: {dense[p10]:.1f} to {dense[p90]:.1f})"
    start = f"Batch {size}{engine}: the dense network takes {base}."
    low, high = rows[f"speedup_b{size}"].min(), rows[f"speedup_b{size}"].max()
    spread = (rows[p90] / rows[p10]).median()
    faster = rows[[is_faster(row, size) for row in rows.to_dict("records")]]
    slower = rows[[is_slower(row, size) for row in rows.to_dict("records")]]
    parts = [start]
    if len(faster):
        parts.append(f"Faster by more than the spread: {_speedups(faster, size)}.")
    elif spread > UNSTEADY:
        parts.append(
            f"The timing is too unsteady to show whether zeros give a speedup: a level's 90th percentile is "
            f"{spread:.1f} times its 10th (speedups {low:.2f}x to {high:.2f}x). Measure on a machine that "
            "runs nothing else."
        )
    else:
        parts.append(
            f"Zeros give no speedup: no level is faster by more than the spread (speedups {low:.2f}x to "
            f"{high:.2f}x){_why_none(dense.engine, legend)}."
        )
    if len(slower):
        parts.append(f"Slower by more than the spread: {_speedups(slower, size)}.")
    return " ".join(parts)


def _why_none(engine: str, legend: Legend) -> str:
    if engine in legend.skipping:
        return "; this engine skips zeros, but there are too few of them"
    return f"; {legend.engines[engine]} multiplies by zero as by any other number"


def _speedups(rows: pd.DataFrame, size: int) -> str:
    return ", ".join(_speedup(row, size) for _, row in rows.iterrows())


def _speedup(row: pd.Series, size: int) -> str:
    return f"{row.method} {row.amount:.9g} ({row[f'speedup_b{size}']:.2f}x)"
