"""Measures the latency of networks in their engines, which take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsity.base.devices import synchronize
from sparsity.engines.making import make_engines
from sparsity.timing.latency import Latency, Rounds, summarize, take_turns
from sparsity.validation.detector import Detector, Lanes
from sparsity.validation.inputs import Detectable


def time_networks(
    networks: Sequence[Detectable], engines: Sequence[str], imgsz: int, rounds: Rounds
) -> list[Latency]:
    """Return the latency of each network on the CPU, for one image of imgsz x imgsz pixels.

    engines: the names of the engines, one per network. rounds: how many runs are timed.
    """
    made = make_engines(engines)
    image = torch.rand(1, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    with Lanes(torch.device("cpu")) as lanes:
        detectors = [
            Detector(network, lanes, engine=made[name])
            for network, name in zip(networks, engines, strict=True)
        ]
        return [summarize(spent) for spent in time_detectors(detectors, image, rounds)]


def time_detectors(
    detectors: Sequence[Detector],
    images: Tensor,
    rounds: Rounds,
    tick: Callable[[int, int], None] | None = None,
) -> list[list[float]]:
    """Return the milliseconds of each detector's runs on the same images. The detectors take turns.

    images: float [batch, 3, height, width] in 0 to 1. tick: see take_turns.
    """
    placed = [detector.place(images) for detector in detectors]
    for detector, own in zip(detectors, placed, strict=True):
        detector.settle(own)
    runs = [partial(_run, detector, own) for detector, own in zip(detectors, placed, strict=True)]
    return take_turns(runs, rounds, tick)


def _run(detector: Detector, images: Tensor) -> None:
    detector.forward(images)
    synchronize(detector.lanes.device)
