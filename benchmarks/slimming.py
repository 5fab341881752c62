"""What each step of slimming costs and is worth: dense, sparse-trained, cut, fine-tuned.

python benchmarks/slimming.py --chain yolov5n demo sparse.pt slimmed.pt tuned.pt --data demo --out chain

All is measured in one run: each file on the data, then latency, all steps of all chains by turns. --chain may
be given several times. Written are NAME.csv and NAME.png in --out; the table is printed, as Markdown.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsity import count_sparsity, load
from sparsity.base.devices import device_name
from sparsity.commands.running import exit_after
from sparsity.data.downloads import ensure_data, ensure_weights
from sparsity.formats.half import round_to_half
from sparsity.formats.sizes import measure_sizes
from sparsity.pruning.multiply_adds import count_gflops
from sparsity.report.plots import COLOURS, MARKERS, STYLE, save
from sparsity.timing.latency import Latency, Rounds
from sparsity.timing.networks import time_networks
from sparsity.validation.inputs import fit, read_data
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import validate
from sparsity.yolo.network import Network, fuse

STEPS = ("dense", "sparse-trained", "cut", "fine-tuned")
ENGINES = ("torch", "onnxruntime")
COSTS = {
    "pt_mb": ".pt",
    "safetensors_mb": ".safetensors",
    "parameters": "parameters",
    "gflops": "GFLOPs",
    "torch_ms": "latency,\ntorch",
    "onnxruntime_ms": "latency,\nonnxruntime",
}


@dataclass(frozen=True)
class StepRow:
    """A step's network, as its files keep it (half precision).

    pt_mb, safetensors_mb: 1e6 bytes. parameters: batch norms' included. gflops: of the convolutions. *_ms:
    median latency of one image, batch norms folded in, with the 10th and the 90th percentile.
    """

    chain: str
    step: str
    AP: float
    AP50: float
    pt_mb: float
    safetensors_mb: float
    parameters: int
    gflops: float
    torch_ms: float = 0.0
    torch_p10_ms: float = 0.0
    torch_p90_ms: float = 0.0
    onnxruntime_ms: float = 0.0
    onnxruntime_p10_ms: float = 0.0
    onnxruntime_p90_ms: float = 0.0


def main() -> None:
    """Parse the flags, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--chain",
        nargs=5,
        action="append",
        required=True,
        metavar=("NAME", "DENSE", "SPARSE", "CUT", "TUNED"),
        help="a name and the files of its four steps; may be given several times",
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV and the plot")
    parser.add_argument("--name", default="chain", help="of both files")
    args = parser.parse_args()
    names = [(chain[0], step) for chain in args.chain for step in STEPS]
    files = [file for chain in args.chain for file in chain[1:]]
    networks = [round_to_half(load(ensure_weights(file), fused=False)) for file in files]
    asked = ValidationSettings(imgsz=args.imgsz, device="cpu")
    asked = replace(asked, imgsz=max(fit(asked, network).imgsz for network in networks))
    rows = [measure(*name, network, args.data, asked) for name, network in zip(names, networks, strict=True)]
    rounds = Rounds(args.seconds, least=20, most=300)
    frame = pd.DataFrame([asdict(row) for row in rows]).assign(**time_all(networks, asked.imgsz, rounds))
    args.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(args.out / f"{args.name}.csv", index=False, float_format="%.6g")
    machine = f"{device_name(torch.device('cpu'))}, {asked.imgsz} px, one image at a time"
    save(plot_chains(frame, machine), args.out / f"{args.name}.png")
    print(f"{machine}, torch {torch.__version__}\n\n{markdown(frame)}")


def measure(chain: str, step: str, network: Network, data: str, settings: ValidationSettings) -> StepRow:
    """All but latency. network: with its batch norms."""
    sizes, settings = measure_sizes(network), fit(settings, network)
    metrics = validate(
        fuse(copy.deepcopy(network)), read_data(ensure_data(data), network, settings), settings
    ).metrics
    return StepRow(
        chain,
        step,
        metrics.AP,
        metrics.AP50,
        sizes.size_pt_mb,
        sizes.size_safetensors_mb,
        count_sparsity(network).parameters,
        count_gflops(network, (settings.imgsz, settings.imgsz)),
    )


def time_all(networks: list[Network], imgsz: int, rounds: Rounds) -> dict[str, list[float]]:
    """The columns of latency: all networks in all engines by turns, one image at a time."""
    fused = [fuse(copy.deepcopy(network)) for network in networks]
    engines = [name for name in ENGINES for _ in fused]
    found = time_networks(fused * len(ENGINES), engines, imgsz, rounds)
    count, columns = len(networks), {}
    for number, name in enumerate(ENGINES):
        columns |= _columns(name, found[number * count : (number + 1) * count])
    return columns


def _columns(engine: str, found: list[Latency]) -> dict[str, list[float]]:
    return {
        f"{engine}_ms": [one.median for one in found],
        f"{engine}_p10_ms": [one.p10 for one in found],
        f"{engine}_p90_ms": [one.p90 for one in found],
    }


def markdown(frame: pd.DataFrame) -> str:
    """The table, with each cost as a share of the dense one's, latency as a speedup."""
    lines = [
        "| | AP | AP50 | .pt, MB | .safetensors, MB | parameters | GFLOPs | ms, torch | ms, onnxruntime |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, rows in frame.groupby("chain", sort=False):
        dense = rows.iloc[0]
        for row in rows.itertuples():
            shares = [
                f"{form.format(getattr(row, name))} ({getattr(row, name) / dense[name]:.0%})"
                for name, form in zip(list(COSTS)[:4], ("{:.2f}", "{:.2f}", "{:,}", "{:.2f}"), strict=True)
            ]
            times = [
                f"{getattr(row, f'{name}_ms'):.1f} ({dense[f'{name}_ms'] / getattr(row, f'{name}_ms'):.2f}x)"
                for name in ENGINES
            ]
            cells = [f"{row.chain}, {row.step}", f"{row.AP:.3f}", f"{row.AP50:.3f}", *shares, *times]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_chains(frame: pd.DataFrame, machine: str) -> Figure:
    """A row for each chain: AP and AP50 by step, and each cost as a share of the dense network's."""
    chains = list(frame.groupby("chain", sort=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.0, 3.6 * len(chains) + 0.4), layout="constrained")
        panels = figure.subplots(len(chains), 2, squeeze=False, width_ratios=(1, 2.4))
        for (name, rows), (left, right) in zip(chains, panels, strict=True):
            _plot_accuracy(left, rows, name)
            _plot_costs(right, rows, name)
        figure.supxlabel(machine, fontsize=8)
    return figure


def _plot_accuracy(axis: Axes, rows: pd.DataFrame, name: str) -> None:
    for number, column in enumerate(("AP50", "AP")):
        style = {"color": COLOURS[number], "marker": MARKERS[number], "label": column}
        axis.plot(rows.step, rows[column], **style)
        for x, y in zip(rows.step, rows[column], strict=True):
            place = (0, -12 if number else 6)
            axis.annotate(f"{y:.3f}", (x, y), place, textcoords="offset points", ha="center", fontsize=7)
    axis.set(title=f"{name}: accuracy", ylim=(0, 1.05))
    axis.margins(x=0.12)
    axis.legend(frameon=False, loc="lower left")


def _plot_costs(axis: Axes, rows: pd.DataFrame, name: str) -> None:
    width = 0.8 / len(rows)
    for number, row in enumerate(rows.itertuples()):
        shares = [getattr(row, column) / rows.iloc[0][column] for column in COSTS]
        places = [place + (number - (len(rows) - 1) / 2) * width for place in range(len(COSTS))]
        bars = axis.bar(places, shares, width=0.9 * width, color=COLOURS[number], label=row.step)
        if number:
            axis.bar_label(bars, [f"{share:.2f}" for share in shares], fontsize=6, padding=1)
    axis.set_xticks(range(len(COSTS)), list(COSTS.values()))
    axis.set(title=f"{name}: cost, as a share of the dense network's")
    axis.grid(False, axis="x")
    axis.legend(frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left")


if __name__ == "__main__":
    exit_after(main, "slimming.py")
