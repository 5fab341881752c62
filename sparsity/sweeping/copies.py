"""Pruned copies of a network, as many at a time as memory holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparsity.inference import Detector, Lanes
from sparsity.memory import free_memory
from sparsity.pruner import Pruner
from sparsity.pruning.apply import LayerSparsity, Sparsity, count_sparsity, layer_sparsity
from sparsity.sweeping.level import Level
from sparsity.validation import ValidationSettings, make_detector

CPU_SHARE, GPU_SHARE = 0.5, 0.25
"""Of the free memory, for copies; the rest is for feature maps, and on a CPU for pruning."""
LEAST = 2
"""The dense network and one other must be there together, to be compared in speed."""


@dataclass(frozen=True)
class Copy:
    """A pruned copy, ready to detect, what is zero in it, and the seconds that pruning took."""

    detector: Detector
    layers: list[LayerSparsity]
    counted: Sparsity
    seconds: float


class Copies:
    """Gives the copies for some levels, and keeps them until others are wanted.

    Copies share nothing: their weights are nearly all that a network holds, and differ.
    levels: all that will be asked for. say: told how long pruning took.
    fitting: how many there may be at a time; each takes copy_bytes of free_bytes.
    """

    def __init__(
        self,
        pruner: Pruner,
        levels: Sequence[Level],
        lanes: Lanes,
        settings: ValidationSettings,
        say: Callable[[str], None],
    ) -> None:
        self._pruner, self._lanes, self._settings, self._say = pruner, lanes, settings, say
        self._made: dict[Level, Copy] = {}
        share = CPU_SHARE if lanes.device.type == "cpu" else GPU_SHARE
        first = make_detector(pruner.network, lanes, settings)
        self.copy_bytes = sum(p.numel() * p.element_size() for p in first.network.parameters())
        pruning_bytes = pruner.working_bytes([level.method for level in levels])
        self.free_bytes = max(0, free_memory(lanes.device) - pruning_bytes)
        self.fitting = max(LEAST, int(self.free_bytes * share / max(1, self.copy_bytes)))

    def groups(self, levels: Sequence[Level]) -> list[tuple[Level, ...]]:
        """The levels in groups that fit."""
        return [tuple(levels[i : i + self.fitting]) for i in range(0, len(levels), self.fitting)]

    def get(self, levels: Sequence[Level]) -> dict[Level, Copy]:
        """A copy for each of the levels, which must fit."""
        for level in self._made.keys() - set(levels):
            del self._made[level]
        for level in levels:
            if level not in self._made:
                self._made[level] = self._make(level)
        return {level: self._made[level] for level in levels}

    def _make(self, level: Level) -> Copy:
        network, seconds = self._pruner.network, 0.0
        if level.amount:
            start = time.perf_counter()
            network = self._pruner.prune(level.method, level.amount)
            seconds = time.perf_counter() - start
            self._say(f"Pruning ({level.label})... {seconds:.1f} s")
        detector = make_detector(network, self._lanes, self._settings)
        detector.warm_up((self._settings.imgsz, self._settings.imgsz))
        return Copy(detector, layer_sparsity(network), count_sparsity(network), seconds)
