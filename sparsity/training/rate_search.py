"""Finds the learning rate of a training: short trials from the same weights, of which the best is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sparsity.training.trainer import DivergedError, Trainer

RATES: Mapping[str, Sequence[float]] = {
    "ScaledAdam": (0.001, 0.003, 0.01, 0.03),
    "AdamW": (3e-5, 1e-4, 3e-4, 1e-3),
    "SGD": (3e-5, 3e-4, 3e-3, 1e-2),
}
"""Optimizer -> the rates that are tried, rising."""
STEPS = 24
"""The optimiser steps of a trial."""
SLACK = 0.02
"""The share by which a loss can be above the lowest one, and its rate still be the best."""
MEASURED_BATCHES = 4
MEASURED_EPOCH = 10_000
"""The number of the epoch whose augmentation measures a trial: one that no training reaches."""


@dataclass(frozen=True)
class RateSearch:
    """The rates that were tried, the loss after each trial (nan: it diverged), and the best rate."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float

    def describe(self) -> str:
        """Return one line for the user."""
        pairs = zip(self.rates, self.losses, strict=True)
        tried = ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in pairs)
        return f"Learning rate... {self.best:g} (loss after {STEPS} steps by rate: {tried})"


def find_rate(make: Callable[[float], Trainer], optimizer: str) -> RateSearch:
    """Train for STEPS steps at each rate, and return the rates, with the best one.

    The best is the largest one whose loss is then within SLACK of the lowest: a training has more steps than
    a trial, and a larger rate needs more steps until it pays.

    make: takes a rate, and gives a trainer of a copy of the network, whose epochs have about STEPS steps
    together.
    Rates are tried in rising order, until a loss is twice the lowest one. Several processes get the same
    losses, so they end their trials together.
    """
    losses: list[float] = []
    for rate in RATES[optimizer]:
        trainer = make(rate)
        losses.append(_try(trainer))
        trainer.accelerator.free_memory()
        lowest = min(filter(math.isfinite, losses), default=math.inf)
        if not losses[-1] < 2 * lowest:
            break
    rates = RATES[optimizer][: len(losses)]
    good = [rate for loss, rate in zip(losses, rates, strict=True) if loss <= lowest * (1 + SLACK)]
    return RateSearch(rates, tuple(losses), good[-1] if good else rates[0])


def _try(trainer: Trainer) -> float:
    """Return the loss after the trainer's epochs; nan where it diverged."""
    try:
        for epoch in range(trainer.settings.epochs):
            trainer.run_epoch(epoch)
    except DivergedError:
        return math.nan
    return trainer.measure(MEASURED_BATCHES, MEASURED_EPOCH)
