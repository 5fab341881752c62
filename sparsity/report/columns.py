"""The columns of a sweep that matter most, as text: the same ones in the page, in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sparsity.report.noise import is_beyond_noise
from sparsity.sweeping.table import batch_sizes

NOT_SIGNIFICANT = "n.s."
"""Stands for a speedup that the spreads of both latencies do not confirm."""
DENSE = "dense"
"""The method's name in rows of amount 0. The CSV repeats the dense row for each method."""
MULTIPLY_ADDS = "gmacs_left"
"""The column of the remaining multiply-adds, in 1e9. It is shown if the frame has it."""
HEAD = "head"
"""The column of the branch of the head that was counted. It is shown if a row has one."""
PREDICTED, PREDICTED_TITLE = "predicted_ms", "predicted ms"
"""The column of the predicted time in the sparse engine, and its title. It is shown if a row has one."""


@dataclass(frozen=True)
class Cell:
    """A value, and its text."""

    text: str
    value: Any


@dataclass(frozen=True)
class Summary:
    """A table of few columns. heads: their titles. rows: a cell for each head. notes: what needs a word."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]

    @property
    def texts(self) -> list[list[str]]:
        """The texts of the rows."""
        return [[cell.text for cell in row] for row in self.rows]


def has_heads(frame: pd.DataFrame) -> bool:
    """Whether the rows say which branch of the head was counted: those of a YOLO26 do."""
    return HEAD in frame and frame[HEAD].fillna("").astype(bool).any()


def distinct_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without repeated dense rows; the method of a dense row is "dense".

    The dense network was measured once in each engine. The frame repeats it for each method.
    """
    dense = frame.amount == 0
    named = frame.assign(method=frame.method.where(~dense, DENSE))
    return named[~dense | ~named[dense].duplicated("engine").reindex(named.index, fill_value=False)]


def summarise(frame: pd.DataFrame) -> Summary:
    """Return the columns that matter most, of each level: a row for each method and amount in each engine.

    Latency and speedup are those of the first batch size. Without latency, there are none.
    """
    rows = [_row(row, frame) for row in distinct_rows(frame).to_dict("records")]
    texts = [cell.text for row in rows for cell in row.values()]
    return Summary(list(rows[0]), [list(row.values()) for row in rows], _notes(frame, texts))


def _row(row: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Cell]:
    """Return the cells of a row, by title."""
    cells = {"engine": Cell(row["engine"], row["engine"])} if frame.engine.nunique() > 1 else {}
    if has_heads(frame):
        cells[HEAD] = Cell(row[HEAD], row[HEAD])
    cells |= {
        "method": Cell(row["method"], row["method"]),
        "sparsity": Cell(f"{row['amount']:.9g}", row["amount"]),
        "AP": Cell(f"{row['AP']:.3f}", row["AP"]),
        _change_title(frame): _change(row),
        "AP50": Cell(f"{row['AP50']:.3f}", row["AP50"]),
    }
    if MULTIPLY_ADDS in row:
        cells["multiply-adds, 1e9"] = Cell(f"{row[MULTIPLY_ADDS]:.2f}", row[MULTIPLY_ADDS])
    if PREDICTED in frame and frame[PREDICTED].notna().any():
        known = pd.notna(row[PREDICTED])
        cells[PREDICTED_TITLE] = Cell(f"{row[PREDICTED]:.1f}" if known else "", row[PREDICTED])
    for size in batch_sizes(frame)[:1]:
        cells[f"ms at batch {size}"] = _latency(row, size)
        cells["speedup"] = _speedup(row, size)
    size = row["size_safetensors_mb"]
    return cells | {"MB": Cell(f"{size:.2f}", size)}


def _change_title(frame: pd.DataFrame) -> str:
    return "change (95% interval)" if "AP_change_low" in frame else "change"


def _change(row: Mapping[str, Any]) -> Cell:
    change = -row["AP_drop"] + 0.0
    if not row["amount"]:
        return Cell("", change)
    interval = ""
    if pd.notna(row.get("AP_change_low")):
        interval = f" ({row['AP_change_low']:+.3f} to {row['AP_change_high']:+.3f})"
    return Cell(f"{change:+.3f}{interval}", change)


def _latency(row: Mapping[str, Any], size: int) -> Cell:
    median, p10, p90 = (row[f"latency{part}_ms_b{size}"] for part in ("", "_p10", "_p90"))
    return Cell(f"{median:.1f} ({p10:.1f} to {p90:.1f})", median)


def _speedup(row: Mapping[str, Any], size: int) -> Cell:
    return Cell(format_speedup(row, size), row[f"speedup_b{size}"])


def format_speedup(row: Mapping[str, Any], size: int) -> str:
    """Return the speedup of a level, such as 1.52x; n.s. if the spreads do not confirm it."""
    told = not row["amount"] or is_beyond_noise(row, size)
    return f"{row[f'speedup_b{size}']:.2f}x" if told else NOT_SIGNIFICANT


def speedup_note(texts: Sequence[str]) -> list[str]:
    """Return the sentence that explains n.s., if one of the texts is that."""
    if NOT_SIGNIFICANT not in texts:
        return []
    return [
        f"{NOT_SIGNIFICANT}: no significant speedup or slowdown; the 10th to 90th percentiles of this level "
        "and of the dense network overlap."
    ]


def _notes(frame: pd.DataFrame, texts: Sequence[str]) -> list[str]:
    notes = ["Change: AP minus that of the dense network in the same engine."]
    if batch_sizes(frame):
        notes.append(
            "Latency: the median, and the 10th to 90th percentile in brackets. Speedup: over the dense "
            "network in the same engine."
        )
    if PREDICTED in frame and frame[PREDICTED].notna().any():
        notes.append(
            "Predicted ms: one image in the sparse engine, by the times of its layers at their densities."
        )
    return [*notes, *speedup_note(texts), "MB: the compressed form (.safetensors), in 1e6 bytes."]
