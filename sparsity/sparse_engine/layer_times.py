"""Measures how the time of each convolution falls with its density, so that budgets can be times."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import torch
from torch import nn

from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.operations import At, Kind
from sparsity.sparse_engine.program import Program
from sparsity.sparse_engine.running import NOTHING, Workspace, make_workspace, run
from sparsity.sparse_engine.tuning import random_image, tune
from sparsity.yolo.network import Network

DENSITIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ROUNDS, LEAST, LONGEST = 25, 5, 20.0
"""How many rounds are timed at most, and at least; seconds after which no further one begins."""
QUANTILE = 0.25
"""Of the rounds' times, since disturbances only add time: steadier than the median and than the shortest."""
WARM_SECONDS = 0.02
"""Seconds of warm-up before a program is timed."""
Tick = Callable[[int, int], None]
"""Is called with what is done and what there is to do."""


@dataclass(frozen=True)
class LayerTimes:
    """The time of a network's layers at several densities, for one image.

    densities: shares of nonzero weights, rising from 0 to 1. layers: the name of a Conv2d -> its seconds at
    these densities, rising. rest: the seconds of all other operations: halos, moves, poolings, input.
    """

    densities: tuple[float, ...]
    layers: Mapping[str, tuple[float, ...]]
    rest: float


@dataclass
class Clock:
    """Times a program: the whole of it, and each of its operations alone. whole, alone: seconds by round."""

    program: Program
    workspace: Workspace
    whole: list[float] = field(default_factory=list)
    alone: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the image that runs read."""
        self._image = random_image(self.program)

    def turn(self) -> None:
        """Time the program once, behind runs that warm up the caches and the threads."""
        rows, warm = self.program.rows, 0.0
        while warm < WARM_SECONDS:
            warm += self._seconds(rows)
        self.whole.append(self._seconds(rows))
        self.alone.append([self._seconds(rows[index : index + 1]) for index in range(len(rows))])

    def _seconds(self, rows: np.ndarray) -> float:
        start = time.perf_counter()
        run(self.program, rows, self.workspace, 1, self._image, NOTHING)
        return time.perf_counter() - start


def measure_layer_times(
    network: Network,
    imgsz: int,
    threads: int,
    *,
    dtype: torch.dtype = torch.float32,
    tick: Tick = lambda _done, _todo: None,
) -> LayerTimes:
    """Time the layers of a network for an image of imgsz x imgsz pixels. The network is not changed.

    At each density, every layer of a copy has zeros at random places; all copies take turns, so that a slow
    phase of the machine affects all densities. Raises InputError for a network that the engine does not run.
    """
    todo, programs = len(DENSITIES) + ROUNDS, []
    for number, density in enumerate(DENSITIES):
        tick(number, todo)
        compiled = CompiledNetwork(at_density(network, density), threads, dtype=dtype)
        tune(compiled, imgsz, imgsz)
        programs.append(compiled.program(imgsz, imgsz))
    clocks = _make_clocks(programs, threads)
    _take_turns(clocks, lambda done: tick(len(DENSITIES) + done, todo))
    tick(todo, todo)
    return layer_times([name for name, _ in _convolutions(network)], clocks)


def _convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    return ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Conv2d))


@torch.no_grad()
def at_density(network: Network, density: float) -> Network:
    """Return a copy in which this share of the weights of each layer is not zero, at random places."""
    pruned, random = copy.deepcopy(network), torch.Generator().manual_seed(0)
    for _, conv in _convolutions(pruned):
        weight, count = conv.weight, conv.weight.numel()
        weight[weight == 0] = weight.abs().mean() or 1.0
        kept = torch.zeros(count)
        kept[torch.randperm(count, generator=random)[: round(density * count)]] = 1
        weight.mul_(kept.view(weight.shape))
    return pruned


def layer_times(names: Sequence[str], clocks: Sequence[Clock]) -> LayerTimes:
    """Return the times of the layers of these names. clocks: one for each of DENSITIES."""
    layers = {name: np.zeros(len(DENSITIES)) for name in names}
    rest = np.zeros(len(DENSITIES))
    for number, clock in enumerate(clocks):
        program = clock.program
        for index, seconds in enumerate(seconds_of(clock.whole, clock.alone)):
            name = program.names[index]
            if name in layers and program.rows[index][At.KIND] == Kind.CONVOLVE:
                layers[name][number] += seconds
            else:
                rest[number] += seconds
    rising = {name: tuple(rising_fit(one)) for name, one in layers.items()}
    return LayerTimes(DENSITIES, rising, float(np.median(rest)))


def seconds_of(whole: Sequence[float], alone: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the seconds of each operation. Their sum is the time of the whole program.

    whole, alone: by round, as a Clock has them. An operation that runs alone wakes the threads first. All
    operations are taken to lose the same time by that.
    """
    total, seconds = float(np.quantile(whole, QUANTILE)), np.quantile(alone, QUANTILE, 0)
    lost = (seconds.sum() - total) / len(seconds)
    left = np.maximum(seconds - lost, 0)
    return left * total / left.sum()


def rising_fit(numbers: Sequence[float]) -> list[float]:
    """Return the rising numbers that are nearest to these by squared distance (isotonic regression).

    Noise is averaged out, where a running maximum would add it up.
    """
    blocks: list[tuple[float, int]] = []
    for number in numbers:
        mean, count = float(number), 1
        while blocks and blocks[-1][0] > mean:
            before, size = blocks.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    return [mean for mean, count in blocks for _ in range(count)]


def _take_turns(clocks: Sequence[Clock], tick: Callable[[int], None]) -> None:
    begun, random = time.perf_counter(), Random(0)
    for number in range(ROUNDS):
        if number >= LEAST and time.perf_counter() - begun > LONGEST:
            break
        tick(number)
        for clock in random.sample(clocks, len(clocks)):
            clock.turn()


def _make_clocks(programs: Sequence[Program], threads: int) -> list[Clock]:
    """Return clocks that share one workspace. The programs are those of one network, with other zeros."""
    sums = max(program.sums for program in programs)
    workspace = make_workspace(replace(programs[0], sums=sums), threads)
    return [Clock(program, workspace) for program in programs]
