"""A sweep's figures, made up."""

from collections.abc import Callable
from dataclasses import fields

import pandas as pd
import pytest

from sparsity.latency import Latency
from sparsity.metrics import Metrics
from sparsity.rows import Sweep, SweepRow, make_frame

TEXTS = {"weights": "n.pt", "data": "shapes", "device": "CPU", "precision": "float32", "torch": "2.13.0+cpu"}
Levels = dict[tuple[str, float], tuple[float, tuple[float, float, float]]]


def row(scope: str, amount: float, ap: float, latency: Latency, dense: Latency) -> SweepRow:
    values = {field.name: 0.5 for field in fields(Metrics)} | TEXTS
    counts = {"images": 9, "instances": 20, "imgsz": 640, "scope": scope, "amount": amount, "AP": ap}
    return SweepRow(Metrics(**values | counts), 3.0, {1: (latency, dense)})


@pytest.fixture
def make_sweep() -> Callable[[Levels], Sweep]:
    """(scope, amount) -> AP and (median, p10, p90) at batch 1; the first is the dense one."""

    def make(levels: Levels) -> Sweep:
        times = {key: Latency(*latency, 9) for key, (_, latency) in levels.items()}
        dense = next(iter(times.values()))
        rows = [row(*key, ap, times[key], dense) for key, (ap, _) in levels.items()]
        frame = make_frame(rows[0], rows[1:], {"max_det": 300})
        layers = pd.DataFrame(
            [
                {"scope": one.scope, "amount": one.amount, "name": f"model.{i}.conv", "sparsity": one.amount}
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
        return Sweep(frame, layers, about, settings)

    return make


SAME = (10.0, 9.0, 11.0)


@pytest.fixture
def usual(make_sweep) -> Sweep:
    """AP falls with sparsity, latency stays."""
    return make_sweep(
        {
            ("layer", 0.0): (0.5, SAME),
            ("layer", 0.1): (0.496, (10.1, 9.1, 11.2)),
            ("layer", 0.5): (0.25, (9.9, 8.8, 10.5)),
            ("global", 0.1): (0.48, (9.8, 8.9, 10.6)),
            ("global", 0.5): (0.45, (10.3, 9.4, 11.3)),
        }
    )
