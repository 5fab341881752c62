"""The scales of a sparse training by epoch -> a ridge plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparsity.files import writing_into
from sparsity.report.plots import COLOURS, STYLE, save

MOST_RIDGES = 40
OVERLAP = 4.0
"""As many ridges high is the highest."""


def write_scales(folder: Path, bins: Sequence[Any]) -> None:
    """Write scales.png. bins: dataclasses with epoch, low, high, channels, in the order of epochs."""
    if bins:
        frame = pd.DataFrame([asdict(one) for one in bins])
        with writing_into(folder):
            save(plot_scales(frame), folder / "scales.png")


def plot_scales(frame: pd.DataFrame) -> Figure:
    """A histogram of the scales for each epoch, the first at the back, the last in front."""
    epochs = frame.epoch.unique()
    if len(epochs) > MOST_RIDGES:
        epochs = epochs[np.linspace(0, len(epochs) - 1, MOST_RIDGES).round().astype(int)]
    highest = frame[frame.epoch.isin(epochs)].channels.max()
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7, 2.6 + 0.13 * len(epochs)), layout="constrained")
        axis = figure.subplots()
        for number, epoch in enumerate(epochs):
            rows = frame[frame.epoch == epoch]
            base = len(epochs) - 1 - number
            heights = base + OVERLAP * rows.channels / highest
            edges = np.append(rows.low, rows.high.iloc[-1])
            style = {"color": COLOURS[0], "alpha": 0.35 + 0.5 * number / len(epochs), "zorder": number}
            axis.stairs(heights, edges, baseline=base, fill=True, **style)
            axis.stairs(heights, edges, baseline=base, color="white", linewidth=0.7, zorder=number)
        shown = range(0, len(epochs), max(1, len(epochs) // 10))
        axis.set_yticks([len(epochs) - 1 - i for i in shown], [str(epochs[i]) for i in shown])
        axis.set_xlim(0, frame.high.max())
        axis.set_ylim(-0.2, len(epochs) - 1 + OVERLAP + 0.3)
        axis.set(xlabel="magnitude of a free channel's batch norm scale", ylabel="epoch")
        axis.set_title(f"Scales by epoch (highest: {highest} channels in a bin)", fontsize=10)
    return figure
