"""Pruned copies of a network, as many at a time as memory holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sparsity.devices import select_precision
from sparsity.engines.registry import TORCH, make_engines
from sparsity.inference import Detector, Lanes
from sparsity.memory import free_memory
from sparsity.pruner import Pruner
from sparsity.pruning.apply import LayerSparsity, Sparsity, count_sparsity, layer_sparsity
from sparsity.sweeping.level import Level
from sparsity.validation import ValidationSettings, make_detector
from sparsity.yolo.network import Network

CPU_SHARE, GPU_SHARE = 0.5, 0.25
"""Of the free memory, for copies; the rest is for feature maps, and on a CPU for pruning."""
LEAST = 2
"""The dense network and one other must be there together, to be compared in speed."""
ENGINE_SHARE = 3
"""Engines other than PyTorch hold a graph's weights, and packed ones by number of threads."""


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
        self._engines = make_engines([level.engine for level in levels])
        self._pruned: tuple[Level, Network, float] | None = None
        share = CPU_SHARE if lanes.device.type == "cpu" else GPU_SHARE
        size = select_precision(lanes.device, settings.half).itemsize
        times = 1 if set(self._engines) == {TORCH} else ENGINE_SHARE
        self.copy_bytes = times * size * sum(p.numel() for p in pruner.network.parameters())
        pruning_bytes = pruner.working_bytes([level.method for level in levels])
        self.free_bytes = max(0, free_memory(lanes.device) - pruning_bytes)
        fitting = int(self.free_bytes * share / max(1, self.copy_bytes))
        self.fitting = max(LEAST * len(self._engines), fitting)

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
        network, seconds = self._prune(level)
        detector = make_detector(network, self._lanes, self._settings, self._engines[level.engine])
        detector.warm_up((self._settings.imgsz, self._settings.imgsz))
        return Copy(detector, layer_sparsity(network), count_sparsity(network), seconds)

    def _prune(self, level: Level) -> tuple[Network, float]:
        """The pruned network, and the seconds that it took; kept for the level's other engines."""
        if not level.amount:
            return self._pruner.network, 0.0
        if self._pruned is None or self._pruned[0] != replace(level, engine=TORCH):
            start = time.perf_counter()
            network = self._pruner.prune(level.method, level.amount)
            seconds = time.perf_counter() - start
            self._say(f"Pruning ({level.label})... {seconds:.1f} s")
            self._pruned = replace(level, engine=TORCH), network, seconds
        return self._pruned[1:]
