"""What a sweep's figures say, in words; every number is one of the frame's."""

from __future__ import annotations

import pandas as pd

from sparsity.rows import batch_sizes

KEPT = (0.99, 0.95, 0.90)
"""Shares of the dense AP that users ask about."""
SHARED_OUT = {
    "layer": "pruned per layer",
    "lamp": "pruned over all layers by LAMP scores",
    "erk": "pruned per layer to Erdos-Renyi-kernel densities",
}
"""How scopes prune; others do so over all layers together."""
UNSTEADY = 2.0
"""A 90th percentile of so many times the 10th, of the median level, tells nothing about small gains."""


def findings(frame: pd.DataFrame) -> list[str]:
    """Sentences: what accuracy each scope keeps at which sparsity, and whether zeros bought speed."""
    dense = frame[frame.amount == 0].iloc[0]
    sentences = [f"Dense: AP {dense.AP:.3f}, AP50 {dense.AP50:.3f} on {dense.images} images."]
    for scope, rows in frame.groupby("scope", sort=False):
        pruned = rows[rows.amount > 0]
        if len(pruned):
            sentences += _kept(str(scope), pruned, dense)
    pruned = frame[frame.amount > 0]
    if len(pruned):
        sentences += [_speed(pruned, dense, size) for size in batch_sizes(frame)]
    return sentences


def _kept(scope: str, rows: pd.DataFrame, dense: pd.Series) -> list[str]:
    where = SHARED_OUT.get(scope, "pruned over all layers together")
    if not dense.AP > 0:
        return [
            f"Scope {scope} ({where}): the dense network has AP {dense.AP:.3f} here, so nothing can be kept."
        ]
    lines = []
    for share in KEPT:
        enough = rows[rows.AP.ge(share * dense.AP)]
        if len(enough):
            best = enough.loc[enough.amount.idxmax()]
            what = (
                f"the largest sparsity that keeps {share:.0%} of the dense AP is {best.amount:.9g} "
                f"(AP {best.AP:.3f}, {best.AP / dense.AP:.1%})"
            )
        else:
            least = rows.loc[rows.amount.idxmin()]
            what = (
                f"no sparsity tried keeps {share:.0%} of the dense AP; the smallest, {least.amount:.9g}, "
                f"keeps {least.AP / dense.AP:.1%} (AP {least.AP:.3f})"
            )
        lines.append(f"Scope {scope} ({where}): {what}.")
    return lines


def _speed(rows: pd.DataFrame, dense: pd.Series, size: int) -> str:
    """Whether any level's latency is off the dense one's by more than both their spreads."""
    median, p10, p90 = (f"latency{part}_ms_b{size}" for part in ("", "_p10", "_p90"))
    dense_p10, dense_p90 = (f"latency_dense_{part}_ms_b{size}" for part in ("p10", "p90"))
    base = f"{dense[median]:.1f} ms ({dense[p10]:.1f} to {dense[p90]:.1f})"
    start = f"Batch {size}: the dense network takes {base}, median and 10th to 90th percentile."
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
            f"{high:.2f}x); PyTorch multiplies by zeros like by any number."
        )
    if len(slower):
        parts.append(f"Slower beyond the spread: {_speedups(slower, size)}.")
    return " ".join(parts)


def _speedups(rows: pd.DataFrame, size: int) -> str:
    return ", ".join(_speedup(row, size) for _, row in rows.iterrows())


def _speedup(row: pd.Series, size: int) -> str:
    return f"{row.scope} {row.amount:.9g} ({row[f'speedup_b{size}']:.2f}x)"
