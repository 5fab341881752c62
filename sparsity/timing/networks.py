"""How long networks take in their engines, by turns."""

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
    """The latency on the CPU of one square image through each network, in the engine of the same place."""
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
    """The milliseconds of each detector's runs of the same images, by turns. tick: as take_turns has it."""
    placed = [detector.place(images) for detector in detectors]
    for detector, own in zip(detectors, placed, strict=True):
        detector.settle(own)
    runs = [partial(_run, detector, own) for detector, own in zip(detectors, placed, strict=True)]
    return take_turns(runs, rounds, tick)


def _run(detector: Detector, images: Tensor) -> None:
    detector.forward(images)
    synchronize(detector.lanes.device)
