"""Which level is the fastest of those that keep enough of the dense AP."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

KEPT = (0.99, 0.95, 0.90)
"""Shares of the dense AP that are reported, in falling order."""


def fastest(frame: pd.DataFrame, size: int) -> str:
    """Return the fastest levels, of any method and engine, that keep enough of the dense AP.

    frame: as make_frame returns it; AP is compared with that of the dense network in the first engine.
    """
    best: dict[str, list[str]] = {}
    for share in reversed(KEPT):
        kept = frame[frame.AP.ge(share * frame.AP.iloc[0])]
        row = kept.loc[kept[f"speedup_over_best_dense_b{size}"].idxmax()]
        best.setdefault(_fast(row, frame, size), []).append(f"{share:.0%}")
    parts = [
        f"Fastest that keeps {join_words(shares)} of the dense AP: {row}" for row, shares in best.items()
    ]
    return f"Batch {size}. {'. '.join(parts)}."


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence. last: the word before the last one."""
    *others, final = words
    return f"{', '.join(others)} {last} {final}" if others else final


def _fast(row: pd.Series, frame: pd.DataFrame, size: int) -> str:
    """Return a level: its method, latency, speedup over the fastest dense network, and AP."""
    several = frame.engine.nunique() > 1
    name = f"{row.method} {row.amount:.9g}" if row.amount else "the dense network"
    place = f" in {row.engine}" if several else ""
    median, over = row[f"latency_ms_b{size}"], row[f"speedup_over_best_dense_b{size}"]
    dense = frame[frame.amount == 0]
    best = dense.loc[dense[f"latency_ms_b{size}"].idxmin()]
    rival = f"the dense network{f' in {best.engine}' if several else ''}"
    speed = f", {over:.2f}x {rival}"
    if not row.amount:
        speed = ""
    elif not row[f"latency_p90_ms_b{size}"] < best[f"latency_p10_ms_b{size}"]:
        speed = f", not faster than {rival} by more than the spread"
    return f"{name}{place} ({median:.1f} ms{speed}, AP {row.AP:.3f}, {row.AP / frame.AP.iloc[0]:.1%})"
