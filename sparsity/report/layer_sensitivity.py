"""Report layer sensitivity: a plot, and a table of the most sensitive layers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from sparsity.base.files import encodable, writing_into
from sparsity.report.plots import save
from sparsity.report.styles import COLOURS, LINES, MARKERS, STYLE
from sparsity.report.titles import set_title
from sparsity.sweeping.table import LEAST_AP

MOST_NAMED = 10
LEAST_DROP = 0.01
"""The smallest drop that matters, as a share of the dense AP."""
LEAST_SHOWN = 0.0005
"""A smaller drop is printed as +0.000."""


def write_plot(path: Path, frame: pd.DataFrame, title: str) -> None:
    """Write the plot of plot_sensitivity, completely or not at all.

    title: can have bytes that are not UTF-8.
    """
    with writing_into(path.parent):
        save(plot_sensitivity(frame, encodable(title)), path)


def plot_sensitivity(frame: pd.DataFrame, title: str) -> Figure:
    """Return a plot of the drop in AP and the error of the raw maps, for each layer pruned alone.

    There is a line for each amount. frame: layer, amount, AP_drop, output_error; layers in the network's
    order.
    """
    names = list(dict.fromkeys(frame.layer))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.0, 0.17 * len(names) + 2), 6.4), layout="constrained")
        drop, error = figure.subplots(2, 1, sharex=True)
        for number, (amount, rows) in enumerate(frame.groupby("amount")):
            rows = rows.set_index("layer").reindex(names)
            style = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": LINES[number % len(LINES)],
                "markersize": 4,
            }
            drop.plot(range(len(names)), rows.AP_drop, label=f"{amount:.9g}", **style)
            error.plot(range(len(names)), rows.output_error.clip(lower=1e-9), **style)
        drop.axhline(0, color="0.5", linewidth=0.8)
        drop.set_ylabel("AP, dense minus pruned")
        drop.legend(frameon=False, title="sparsity of the layer")
        error.set_ylabel("error of the raw maps")
        error.set_yscale("log")
        error.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        error.set_xlabel("the one Conv2d that is pruned, in the network's order")
        set_title(figure, title)
    return figure


def format_sensitivity(frame: pd.DataFrame) -> str:
    """Return the most sensitive layers at the largest amount, and the flags that keep some of them dense."""
    most = frame[frame.amount == frame.amount.max()].sort_values("AP_drop", ascending=False, kind="stable")
    most = most.head(MOST_NAMED)
    lines = [f"{'layer':>28}{'weights':>10}{'sparsity':>10}{'AP drop':>10}{'output error':>14}"]
    lines += [
        f"{row.layer:>28}{row.weights:>10}{row.amount:>10.3g}{row.AP_drop:>+10.3f}{row.output_error:>14.3g}"
        for row in most.itertuples()
    ]
    return "\n".join([*lines, "", _recommend(most)])


def _recommend(most: pd.DataFrame) -> str:
    """Return the flags that keep the most sensitive layers dense. most: rows, the largest drop first."""
    dense = (most.AP + most.AP_drop).iloc[0]
    if dense < LEAST_AP:
        return f"The dense network has AP {dense:.3f} here, below {LEAST_AP}, so nothing can be told."
    sensitive = most[most.AP_drop >= max(LEAST_DROP * dense, LEAST_SHOWN)].layer.head(3)
    if sensitive.empty:
        return f"No layer costs as much as {LEAST_DROP:.0%} of the dense AP ({dense:.3f}); none needs --keep."
    return "To keep the most sensitive ones dense: " + " ".join(f"--keep {name}" for name in sensitive)
