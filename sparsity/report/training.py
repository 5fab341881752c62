"""Report the epochs of a training: a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparsity.base.files import writing_into
from sparsity.report.plots import save
from sparsity.report.styles import COLOURS, LINES, MARKERS, STYLE, pick


def write_training(folder: Path, rows: Sequence[Any]) -> None:
    """Write epochs.png: losses, AP and sparsity by epoch. rows: dataclasses, one for each epoch."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    if len(frame):
        with writing_into(folder):
            save(plot_training(frame), folder / "epochs.png")


def plot_training(frame: pd.DataFrame) -> Figure:
    """Return a plot of the losses by epoch, and of sparsity, AP and AP50, if they were measured, by epoch."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4), layout="constrained")
        losses, accuracy = figure.subplots(1, 2)
        names = ("box", "objectness", "classes", "distillation", "dfl", "blocks")
        shown = [name for name in names if name in frame and frame[name].any()]
        for number, name in enumerate(shown):
            style = {"color": COLOURS[number], "linestyle": pick(LINES, number), "marker": MARKERS[number]}
            losses.plot(frame.epoch, frame[name], label=name, markersize=3, **style)
        losses.set(xlabel="epoch", ylabel="loss per image", title="Losses")
        losses.set_ylim(bottom=0)
        measured = frame[frame.AP >= 0]
        for number, name in enumerate(("AP", "AP50") if len(measured) else ()):
            style = {"color": COLOURS[number], "linestyle": pick(LINES, number), "marker": MARKERS[number]}
            accuracy.plot(measured.epoch, measured[name], label=name, markersize=3, **style)
        accuracy.plot(frame.epoch, frame.sparsity_conv, color="0.5", label="sparsity")
        accuracy.set(xlabel="epoch", ylabel="0 to 1", title="Accuracy and sparsity")
        accuracy.set_ylim(0, 1)
        for axis in (losses, accuracy):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend(frameon=False)
    return figure
