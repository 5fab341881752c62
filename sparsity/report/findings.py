"""What a sweep's figures say, in words; every number is one of the frame's."""

from __future__ import annotations

import pandas as pd

from sparsity.sweeping.table import Legend, Sweep, batch_sizes, by_method

KEPT = (0.99, 0.95, 0.90)
"""Shares of the dense AP that users ask about, falling."""
SHARED_OUT = {
    "layer": "the same share of each layer",
    "global": "over all layers together",
    "lamp": "shared out by LAMP scores",
    "erk": "shared out by Erdos-Renyi-kernel densities",
    "measured": "shared out by what each layer costs",
}
UNSTEADY = 2.0
"""A 90th percentile of so many times the 10th, of the median level, tells nothing about small gains."""
SAME_AP = 0.002
"""Further apart, AP of one network in two engines is flagged."""


def findings(sweep: Sweep) -> list[str]:
    """Sentences: what accuracy each method keeps, which differ, what engines and zeros do to speed."""
    frame = sweep.frame
    dense = frame[frame.amount == 0].iloc[0]
    sentences = [f"Dense: AP {dense.AP:.3f}, AP50 {dense.AP50:.3f} on {dense.images} images."]
    for _, rows in by_method(frame):
        pruned = rows[rows.amount > 0]
        if len(pruned):
            sentences += _kept(pruned, dense, sweep.legend)
    sentences += _beyond_chance(sweep.differences)
    pruned = frame[frame.amount > 0]
    if len(pruned):
        sentences.append(_size(pruned, dense))
    engines = list(frame.groupby("engine", sort=False))
    if len(engines) > 1:
        sentences += [_same_answers(engines[0][1], rows) for _, rows in engines[1:]]
        sentences += [_engine_speed(frame, size) for size in batch_sizes(frame)]
    for _, rows in engines:
        pruned = rows[rows.amount > 0]
        if len(pruned):
            name = f", {rows.engine.iloc[0]}" if len(engines) > 1 else ""
            sentences += [
                _speed(pruned, rows.iloc[0], size, name, sweep.legend) for size in batch_sizes(frame)
            ]
    return sentences


def _size(pruned: pd.DataFrame, dense: pd.Series) -> str:
    """What the smallest file saves, and that a .pt saves nothing."""
    row = pruned.loc[pruned.size_safetensors_mb.idxmin()]
    went = f"; dead channels that went: {row.channels_removed}" if row.channels_removed else ""
    return (
        f"Files: the dense .pt has {dense.size_dense_mb:.2f} MB, {dense.size_safetensors_mb:.2f} compressed "
        f"(.safetensors). At {row.amount:.9g} ({row.method}) the .pt still has {row.size_pt_mb:.2f} MB: "
        "a zero takes as much room in it as any number. Compressed it is "
        f"{row.size_safetensors_mb:.2f} MB ({row.size_dense_mb / row.size_safetensors_mb:.1f} times "
        f"smaller){went}."
    )


def _same_answers(first: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Whether an engine's AP is that of the first one, level by level."""
    one, other = first.engine.iloc[0], rows.engine.iloc[0]
    gaps = rows.assign(gap=rows.AP.to_numpy() - first.AP.to_numpy())
    off = gaps[gaps.gap.abs() > SAME_AP].drop_duplicates(["method", "amount"])
    if off.empty:
        return f"AP by {other} is that by {one} to {gaps.gap.abs().max():.4f} at every level."
    said = ", ".join(f"{row.method} {row.amount:.9g} ({row.gap:+.3f})" for row in off.itertuples())
    return f"WARNING: AP by {other} is off that by {one} by more than {SAME_AP}: {said}."


def _engine_speed(frame: pd.DataFrame, size: int) -> str:
    """The dense network's latency in each engine."""
    dense = frame[frame.amount == 0].drop_duplicates("engine")
    times = dict(zip(dense.engine, dense[f"latency_ms_b{size}"], strict=True))
    first = next(iter(times.values()))
    said = ", ".join(f"{engine} {ms:.1f} ms ({first / ms:.2f}x)" for engine, ms in times.items())
    return f"Batch {size}, the dense network by engine: {said}."


def _kept(rows: pd.DataFrame, dense: pd.Series, legend: Legend) -> list[str]:
    first = rows.iloc[0]
    name = f"{first.method} ({legend.criteria[first.criterion]}, {SHARED_OUT[first.scope]})"
    if not dense.AP > 0:
        return [f"{name}: the dense network has AP {dense.AP:.3f} here, so nothing can be kept."]
    best = {share: rows[rows.AP.ge(share * dense.AP)] for share in KEPT}
    lines = []
    missed = [share for share in KEPT if best[share].empty]
    if missed:
        least = rows.loc[rows.amount.idxmin()]
        lines.append(
            f"{name}: no sparsity tried keeps {missed[-1]:.0%} of the dense AP; the smallest, "
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
    """By amount, which methods are above which others by more than the choice of images makes."""
    lines = []
    for amount, rows in differences.groupby("amount") if len(differences) else ():
        above: dict[str, list[str]] = {}
        for row in rows.itertuples():
            if row.low > 0 or row.high < 0:
                better, worse = (row.method, row.other) if row.low > 0 else (row.other, row.method)
                above.setdefault(better, []).append(worse)
        said = "; ".join(f"{better} is above {', '.join(worse)}" for better, worse in above.items())
        said = said or "no method differs from another by more than that"
        lines.append(f"Sparsity {amount:.9g}, beyond the choice of images (95% intervals of AP): {said}.")
    return lines


def _speed(rows: pd.DataFrame, dense: pd.Series, size: int, engine: str, legend: Legend) -> str:
    """Whether any level's latency is off the dense one's by more than both their spreads."""
    median, p10, p90 = (f"latency{part}_ms_b{size}" for part in ("", "_p10", "_p90"))
    dense_p10, dense_p90 = (f"latency_dense_{part}_ms_b{size}" for part in ("p10", "p90"))
    base = f"{dense[median]:.1f} ms ({dense[p10]:.1f} to {dense[p90]:.1f})"
    start = f"Batch {size}{engine}: the dense network takes {base}, median and 10th to 90th percentile."
    low, high = rows[f"speedup_b{size}"].min(), rows[f"speedup_b{size}"].max()
    spread = (rows[p90] / rows[p10]).median()
    faster, slower = rows[rows[p90] < rows[dense_p10]], rows[rows[p10] > rows[dense_p90]]
    parts = [start]
    if len(faster):
        parts.append(f"Faster beyond the spread: {_speedups(faster, size)}.")
    elif spread > UNSTEADY:
        parts.append(
            f"The clock was too unsteady to tell whether zeros bought speed: a level's 90th percentile is "
            f"{spread:.1f} times its 10th (speedups {low:.2f}x to {high:.2f}x); measure on a quiet machine."
        )
    else:
        parts.append(
            f"Zeros bought no speed: no level is faster beyond the spread (speedups {low:.2f}x to "
            f"{high:.2f}x){_why_none(dense.engine, legend)}."
        )
    if len(slower):
        parts.append(f"Slower beyond the spread: {_speedups(slower, size)}.")
    return " ".join(parts)


def _why_none(engine: str, legend: Legend) -> str:
    if engine in legend.skipping:
        return ": there are too few for this engine, which skips them"
    return f"; {legend.engines[engine]} multiplies by zeros like by any number"


def _speedups(rows: pd.DataFrame, size: int) -> str:
    return ", ".join(_speedup(row, size) for _, row in rows.iterrows())


def _speedup(row: pd.Series, size: int) -> str:
    return f"{row.method} {row.amount:.9g} ({row[f'speedup_b{size}']:.2f}x)"
