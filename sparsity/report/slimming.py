"""Report what slimming cut: a table, a CSV, JSON and a plot of the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from sparsity.base.files import encodable, write_json, write_text, writing_into
from sparsity.channels.slimming_table import Extent, Figures, SlimmedLayer
from sparsity.report.plots import save
from sparsity.report.styles import COLOURS, STYLE
from sparsity.report.titles import set_title


def write_slimming(
    folder: Path,
    layers: Sequence[SlimmedLayer],
    about: Mapping[str, Any],
    figures: tuple[Figures, Figures],
) -> None:
    """Write slim.csv, slim.json and slim.png.

    about: the settings and results of slimming; it has weights, free and removed. figures: before and after.
    """
    before, after = (asdict(one) for one in figures)
    frame = pd.DataFrame([asdict(layer) for layer in layers])
    title = f"{Path(about['weights']).name}: {about['removed']} of {about['free']} free channels cut"
    with writing_into(folder):
        write_text(folder / "slim.csv", frame.to_csv(index=False))
        write_json(folder / "slim.json", {**about, "before": before, "after": after}, indent=1)
        save(plot_channels(frame, encodable(title)), folder / "slim.png")


def plot_channels(frame: pd.DataFrame, title: str) -> Figure:
    """Return a plot of the channels of every Conv2d, before and after. frame: layer, before, free, after."""
    places = range(len(frame))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.0, 0.17 * len(frame) + 2), 4.6), layout="constrained")
        axis = figure.subplots()
        axis.bar(places, frame.before, width=0.8, color="0.85", label="before")
        axis.bar(places, frame.after, width=0.8, color=COLOURS[0], label="after")
        fixed = frame.free == 0
        at = [place for place, one in zip(places, fixed, strict=True) if one]
        axis.plot(at, frame.before[fixed], "v", color=COLOURS[1], markersize=4, label="no free channels")
        axis.set_xticks(places, frame.layer, rotation=90, fontsize=6)
        axis.set_xlim(-1, len(frame))
        axis.set(xlabel="Conv2d, in the network's order", ylabel="output channels")
        axis.grid(False, axis="x")
        axis.legend(frameon=False)
        set_title(figure, title)
    return figure


def format_channels(layers: Sequence[SlimmedLayer]) -> str:
    """Return a table with a row for each Conv2d: channels before, free channels, channels after."""
    width = max(28, *(len(one.layer) + 2 for one in layers))
    lines = [f"{'layer':>{width}}{'channels':>10}{'free':>8}{'left':>8}"]
    lines += [f"{one.layer:>{width}}{one.before:>10}{one.free:>8}{one.after:>8}" for one in layers]
    return "\n".join(lines)


def format_extent(extent: Extent, percent: float, min_channels: int) -> str:
    """Return how many channels were cut, and the largest cut that empties no layer.

    percent, min_channels: as requested.
    """
    share = extent.removed / extent.free
    # Rounded down, so that the printed value is safe.
    safe = math.floor(extent.safe_percent * 1e4) / 1e4
    lines = [
        f"Cut {extent.removed} of {extent.free} free channels ({share:.1%}; {percent:.1%} requested), "
        f"with scores up to {extent.threshold:.4g}",
        f"Largest cut that empties no layer: scores below {extent.safe_threshold:.4g}, --percent {safe:.4f}",
    ]
    if percent > extent.safe_percent:
        lines.append(
            "WARNING: more than that is requested; each layer keeps its best channels, "
            f"at least {min_channels} (--min-channels)"
        )
    elif extent.removed < round(percent * extent.free):
        lines.append(
            "WARNING: fewer channels are cut than requested: each layer keeps at least --min-channels, and "
            "--round-to rounds its channels up to a multiple"
        )
    return "\n".join(lines)


def format_figures(before: Figures, after: Figures) -> str:
    """Return a table: parameters, GFLOPs and sizes before and after, and the share left.

    If AP was measured, it follows with AP50: before, after, and the difference.
    """
    rows = [
        ("parameters", before.parameters, after.parameters, "d"),
        ("GFLOPs", before.gflops, after.gflops, ".2f"),
        (".pt, MB", before.size_pt_mb, after.size_pt_mb, ".2f"),
        (".safetensors, MB", before.size_safetensors_mb, after.size_safetensors_mb, ".2f"),
    ]
    lines = [f"{'':>28}{'before':>12}{'after':>12}{'left':>9}"]
    lines += [
        f"{title:>28}{one:>12{form}}{other:>12{form}}{other / one:>9.1%}" for title, one, other, form in rows
    ]
    if before.AP >= 0:
        pairs = (("AP", before.AP, after.AP), ("AP50", before.AP50, after.AP50))
        lines += [f"{title:>28}{one:>12.3f}{other:>12.3f}{other - one:>+9.3f}" for title, one, other in pairs]
    return "\n".join(lines)
