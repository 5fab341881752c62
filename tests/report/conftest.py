"""Sweeps with invented figures."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import combinations

import pandas as pd
import pytest

from sparsity.commands.method_lists import parse_methods
from sparsity.evaluation.bootstrap import Interval
from sparsity.formats.sizes import Sizes
from sparsity.pruning.method import Method
from sparsity.sweeping.collecting import make_legend
from sparsity.sweeping.intervals import COLUMNS
from sparsity.sweeping.table import Sweep, SweepRow, make_frame
from sparsity.timing.latency import Latency
from sparsity.validation.metrics import Metrics

TEXTS = {
    "budget": "weights",
    "predicted_ms": None,
    "pattern": "unstructured",
    "keep": "model.0.conv",
    "weights": "n.pt",
    "data": "shapes",
    "engine": "torch",
    "device": "CPU",
    "precision": "float32",
    "torch": "2.13.0+cpu",
    "head": "",
}
Levels = dict[tuple[str, float], tuple[float, tuple[float, float, float]]]
METHODS = {method.label: method for method in parse_methods("l1,obs", "layer,global,lamp,erk,measured")}
LEGEND = make_legend((Method("l1"), Method("obs")), ("torch", "onnxruntime", "openvino", "sparse"))
WIDTH = 0.01
"""The distance of an interval's limits from its middle."""


def row(method: str, amount: float, ap: float, latency: Latency, dense: Latency, change: float) -> SweepRow:
    values = {field.name: 0.5 for field in fields(Metrics)} | TEXTS
    counts = {"images": 9, "instances": 20, "imgsz": 640, "amount": amount, "AP": ap}
    counts["channels_removed"] = 0
    names = {"criterion": METHODS[method].criterion, "scope": METHODS[method].scope}
    interval = Interval(change, change - WIDTH, change + WIDTH, float(change > 0))
    metrics, sizes = Metrics(**values | counts | names), Sizes(4.0, 4.0, 4.0 - 3 * amount, 4.0 - 2 * amount)
    return SweepRow(
        Method(metrics.criterion, metrics.scope), metrics, sizes, 3.0, {1: (latency, dense)}, 1.5, interval
    )


@pytest.fixture
def in_two_engines() -> Callable[..., Sweep]:
    """Make a sweep of levels 0 and 0.5 in torch and onnxruntime, whose AP differs by gap at 0.5."""

    def make(gap: float) -> Sweep:
        rows = []
        for engine, ms, off in (("torch", 40.0, 0.0), ("onnxruntime", 20.0, gap)):
            latency = Latency(ms, ms - 1, ms + 1, 9)
            made = [
                row("l1", 0.0, 0.5, latency, latency, 0.0),
                row("l1", 0.5, 0.4 + off, latency, latency, 0.1),
            ]
            fastest = {1: 20.0}
            rows += [
                replace(one, metrics=replace(one.metrics, engine=engine), best_dense=fastest) for one in made
            ]
        frame = make_frame(rows, {"max_det": 300})
        return Sweep(frame, pd.DataFrame(), {}, {}, LEGEND, difference(frame[frame.engine == "torch"]))

    return make


def difference(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pair of methods at the same amount."""
    pairs = []
    for amount, rows in frame[frame.amount > 0].groupby("amount"):
        for one, other in combinations(rows.itertuples(), 2):
            gap = one.AP - other.AP
            pairs.append((amount, one.method, other.method, gap, gap - WIDTH, gap + WIDTH, float(gap > 0)))
    return pd.DataFrame(pairs, columns=list(COLUMNS))


@pytest.fixture(scope="session")
def make_sweep() -> Callable[[Levels], Sweep]:
    """(method, amount) -> AP and (median, p10, p90) at batch 1; the first is the dense one."""

    def make(levels: Levels) -> Sweep:
        times = {key: Latency(*latency, 9) for key, (_, latency) in levels.items()}
        dense = next(iter(times.values()))
        first = next(iter(levels.values()))[0]
        rows = [row(*key, ap, times[key], dense, ap - first) for key, (ap, _) in levels.items()]
        frame = make_frame(rows, {"max_det": 300})
        layers = pd.DataFrame(
            [
                {
                    "method": one.method,
                    "amount": one.amount,
                    "name": f"model.{i}.conv",
                    "sparsity": one.amount,
                }
                for one in frame.itertuples()
                for i in range(3)
            ]
        )
        about = {
            "weights": "n.pt",
            "data": "some/shapes",
            "started": "2026-01-02 03:04:05 +0000",
            "command": "python sweep.py 0.1:0.9",
            "environment": {"device": "CPU", "threads": 2, "torch": "2"},
        }
        settings = {"amounts": [0.0, 0.5], "weights": "sha256 ab", "data": "9 images, sha256 cd"}
        return Sweep(frame, layers, about, settings, LEGEND, difference(frame))

    return make


SAME = (10.0, 9.0, 11.0)


@pytest.fixture(scope="session")
def make_usual(make_sweep) -> Callable[[], Sweep]:
    """Make a sweep whose AP falls with sparsity, at constant latency."""
    levels = {
        ("l1", 0.0): (0.5, SAME),
        ("l1", 0.1): (0.496, (10.1, 9.1, 11.2)),
        ("l1", 0.5): (0.25, (9.9, 8.8, 10.5)),
        ("l1 global", 0.1): (0.48, (9.8, 8.9, 10.6)),
        ("l1 global", 0.5): (0.45, (10.3, 9.4, 11.3)),
    }
    return lambda: make_sweep(levels)


@pytest.fixture
def usual(make_usual) -> Sweep:
    """Return a sweep of make_usual, which a test can change."""
    return make_usual()
