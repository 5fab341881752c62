"""How long networks take in their engines, by turns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from sparsity.engines.registry import make_engines
from sparsity.inference import Detector, Lanes
from sparsity.latency import Latency, Rounds, summarize, take_turns
from sparsity.validation import Detectable


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
        for detector in detectors:
            detector.settle(detector.place(image))
        runs = [partial(detector.forward, detector.place(image)) for detector in detectors]
        return [summarize(spent) for spent in take_turns(runs, rounds)]
