"""Report the batch norm scales of a sparse training by epoch: a ridge plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparsity.base.files import writing_into
from sparsity.report.plots import save
from sparsity.report.styles import COLOURS, STYLE

MOST_RIDGES = 40
"""The largest number of epochs that are drawn."""
OVERLAP = 3.5
"""The height of the highest ridge, in units of the distance between two ridges."""
FAINTEST = 0.45
"""The colour strength of the ridge at the back: 0 is white, 1 the full colour."""


def write_scales(folder: Path, bins: Sequence[Any]) -> None:
    """Write scales.png. bins: dataclasses with epoch, low, high, channels, in order of the epochs."""
    if bins:
        frame = pd.DataFrame([asdict(one) for one in bins])
        with writing_into(folder):
            save(plot_scales(frame), folder / "scales.png")


def plot_scales(frame: pd.DataFrame) -> Figure:
    """Return a plot with a histogram of the scales for each epoch: the first at the back, the last in front.

    Heights are square roots of the counts, because at the end most channels are in the first bin.
    """
    epochs = frame.epoch.unique()
    if len(epochs) > MOST_RIDGES:
        epochs = epochs[np.linspace(0, len(epochs) - 1, MOST_RIDGES).round().astype(int)]
    highest = frame[frame.epoch.isin(epochs)].channels.max()
    colour = np.array(mpl.colors.to_rgb(COLOURS[0]))
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7, 2.6 + 0.13 * len(epochs)), layout="constrained")
        axis = figure.subplots()
        for number, epoch in enumerate(epochs):
            rows = frame[frame.epoch == epoch]
            base = len(epochs) - 1 - number
            heights = base + OVERLAP * np.sqrt(rows.channels / highest)
            edges = np.append(rows.low, rows.high.iloc[-1])
            share = FAINTEST + (1 - FAINTEST) * number / max(1, len(epochs) - 1)
            shade = tuple(1 - share * (1 - colour))
            axis.stairs(heights, edges, baseline=base, fill=True, color=shade, zorder=number + 2)
            axis.stairs(heights, edges, baseline=base, color="white", linewidth=0.6, zorder=number + 2)
        shown = range(0, len(epochs), max(1, len(epochs) // 10))
        axis.set_yticks([len(epochs) - 1 - i for i in shown], [str(epochs[i]) for i in shown])
        axis.set_xlim(0, frame.high.max())
        axis.set_ylim(-0.2, len(epochs) - 1 + OVERLAP + 0.3)
        axis.set(xlabel="magnitude of a free channel's batch norm scale", ylabel="epoch")
        axis.set_title(
            f"Scales by epoch (square roots of counts; the highest is {highest} channels)", fontsize=10
        )
    return figure
