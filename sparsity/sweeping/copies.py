"""Pruned copies of a network. Memory limits how many exist at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sparsity.base.devices import select_precision
from sparsity.base.memory import free_memory
from sparsity.channels.compacting import compact as without_dead_channels
from sparsity.engines.engine import Engine
from sparsity.engines.making import make_engines
from sparsity.formats.sizes import Sizes, measure_sizes
from sparsity.pruning.budgets import LATENCY
from sparsity.pruning.method import Method, any_by_time
from sparsity.pruning.pruner import Pruner
from sparsity.pruning.zeros import LayerSparsity, layer_sparsity
from sparsity.sweeping.level import Level
from sparsity.sweeping.stages import ONE_SHOT
from sparsity.validation.detector import Detector, Lanes, make_detector
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import Counted, count
from sparsity.yolo.network import Network

CPU_SHARE, GPU_SHARE = 0.5, 0.25
"""The share of the free memory for copies. The rest is for feature maps and, on a CPU, for pruning."""
LEAST = 2
"""The smallest number of copies at a time in each engine: the dense network, and one to compare with it."""
TRACED = 5
"""The memory for tracing and the first graph, in units of the weights, if an engine needs a graph."""


@dataclass(frozen=True)
class Facts:
    """What is known of a pruned network, for its row.

    layers, counted: its zeros by layer; its zeros and multiply-adds in total. sizes: of its files. seconds:
    the time that pruning took. channels_removed: the number of dead channels that were removed.
    predicted_ms: see Metrics.
    """

    layers: list[LayerSparsity]
    counted: Counted
    sizes: Sizes
    seconds: float
    channels_removed: int
    predicted_ms: float | None


@dataclass(frozen=True)
class PrunedLevel:
    """The pruned network of a level, in no engine. level: in torch; the engines share the network."""

    level: Level
    network: Network
    facts: Facts


@dataclass(frozen=True)
class Copy:
    """A pruned copy that is ready to detect."""

    pruned: PrunedLevel
    detector: Detector


@dataclass(frozen=True)
class LevelMaker:
    """Makes the networks of levels.

    pruner: of the network that is swept. methods: those of all levels. settings: of the validations.
    compact: whether dead channels are removed. make: returns the fused network of a pruned level; None for
    what the pruner gives.
    say: called with a line for each pruning, and for each removal of dead channels.
    """

    pruner: Pruner
    methods: Sequence[Method]
    settings: ValidationSettings
    compact: bool = False
    make: Callable[[Level], Network] | None = None
    say: Callable[[str], None] = lambda _line: None

    def prune(self, level: Level) -> PrunedLevel:
        """Return the pruned network of a level; for amount 0 the dense network itself."""
        network, seconds, removed = self.pruner.network, 0.0, 0
        if level.amount:
            start = time.perf_counter()
            make = self.make or (lambda level: self.pruner.prune(level.method, level.amount))
            network = make(level)
        if level.amount and level.stage == ONE_SHOT:
            seconds = time.perf_counter() - start
            self.say(f"Pruning ({level.label})... {seconds:.1f} s")
        predicted = self._predict(level, network)
        if self.compact:
            made = without_dead_channels(network)
            network, removed = made.network, made.channels_before - made.channels_after
            if removed:
                self.say(f"Dead channels ({level.label})... {removed} of {made.channels_before} removed")
        facts = Facts(
            layers=layer_sparsity(network),
            counted=count(network, self.settings),
            sizes=measure_sizes(network, self._dense_sizes),
            seconds=seconds,
            channels_removed=removed,
            predicted_ms=predicted,
        )
        return PrunedLevel(level.in_torch, network, facts)

    @cached_property
    def _dense_sizes(self) -> Sizes:
        return measure_sizes(self.pruner.network)

    def _predict(self, level: Level, network: Network) -> float | None:
        """Return the predicted milliseconds of a level with budget latency, or of the dense one beside it."""
        wanted = level.method.budget == LATENCY or (not level.amount and any_by_time(self.methods))
        return self.pruner.price(network) * 1e3 if wanted else None


def ready(pruned: PrunedLevel, lanes: Lanes, settings: ValidationSettings, engine: Engine) -> Copy:
    """Return a copy of a level in an engine, warmed up."""
    detector = make_detector(pruned.network, lanes, settings, engine)
    detector.warm_up((settings.imgsz, settings.imgsz))
    return Copy(pruned, detector)


class Copies:
    """Makes the copies of some levels, and keeps them until other levels are requested.

    Copies share no tensors: the weights are nearly all the memory of a network, and they differ.
    pruner: of the network that is swept. methods, engines: those of all levels that will be requested.
    settings: of the validations. prune: returns the pruned network of a level (see LevelMaker). on_pruned:
    called with each pruned network, and with its level, in torch.
    fitting: the number of copies that fit in memory at a time. Each takes copy_bytes of free_bytes.
    """

    def __init__(
        self,
        pruner: Pruner,
        methods: Sequence[Method],
        engines: Sequence[str],
        lanes: Lanes,
        settings: ValidationSettings,
        prune: Callable[[Level], PrunedLevel],
        *,
        on_pruned: Callable[[Level, Network], None] = lambda _level, _network: None,
    ) -> None:
        self._lanes, self._settings, self._on_pruned = lanes, settings, on_pruned
        self._made: dict[Level, Copy] = {}
        self._engines = make_engines(engines, pruner.calibration)
        self._pruned: PrunedLevel | None = None
        self._prune = prune
        share = CPU_SHARE if lanes.device.type == "cpu" else GPU_SHARE
        size = select_precision(lanes.device, settings.half).itemsize
        weights = size * sum(p.numel() for p in pruner.network.parameters())
        self.copy_bytes = int(
            weights * sum(one.memory for one in self._engines.values()) / len(self._engines)
        )
        working_bytes = pruner.working_bytes(methods)
        if any(engine.needs_graph for engine in self._engines.values()):
            working_bytes += TRACED * weights
        self.free_bytes = max(0, free_memory(lanes.device) - working_bytes)
        fitting = int(self.free_bytes * share / max(1, self.copy_bytes))
        self.fitting = max(LEAST * len(self._engines), fitting)

    @property
    def device_name(self) -> str:
        """The name of the device that the copies run on."""
        return self._lanes.device_name

    def groups(self, levels: Sequence[Level]) -> list[tuple[Level, ...]]:
        """Return the levels in groups. Each group fits in memory."""
        return [tuple(levels[i : i + self.fitting]) for i in range(0, len(levels), self.fitting)]

    def get(self, levels: Sequence[Level]) -> dict[Level, Copy]:
        """Return a copy of each level. The levels must fit in memory together."""
        for level in self._made.keys() - set(levels):
            del self._made[level]
        for level in levels:
            if level not in self._made:
                self._made[level] = self._make(level)
        return {level: self._made[level] for level in levels}

    def network(self, level: Level) -> Network:
        """Return the pruned network of a level, without an engine."""
        return self._of(level).network

    def _of(self, level: Level) -> PrunedLevel:
        if self._pruned is None or self._pruned.level != level.in_torch:
            self._pruned = self._prune(level)
            self._on_pruned(self._pruned.level, self._pruned.network)
        return self._pruned

    def _make(self, level: Level) -> Copy:
        return ready(self._of(level), self._lanes, self._settings, self._engines[level.engine])
