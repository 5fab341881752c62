"""A network that runs in the sparse engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError
from sparsity.sparse_engine.arrays import aligned_zeros
from sparsity.sparse_engine.build import load_kernels
from sparsity.sparse_engine.choices import Choice, Task
from sparsity.sparse_engine.graph import trace
from sparsity.sparse_engine.kernels import COUNTERS
from sparsity.sparse_engine.packed_graph import pack_halves
from sparsity.sparse_engine.packing import PACKINGS
from sparsity.sparse_engine.program import Program, make_program
from sparsity.sparse_engine.quantizing import quantize
from sparsity.sparse_engine.team import Team
from sparsity.yolo.network import Network

MOST_PROGRAMS = 2
"""Number of image sizes whose programs are kept. Each program holds a copy of the nonzero weights."""


@dataclass(eq=False)
class Workspace:
    """The memory and the threads of one call. Calls that run at the same time have separate workspaces."""

    memory: np.ndarray
    sums: list[np.ndarray]
    scratch: list[np.ndarray]
    team: Team
    kernels: Callable[..., None]


@dataclass(eq=False)
class _Prepared:
    """A program, and its workspaces that are not in use."""

    program: Program
    free: list[Workspace] = field(default_factory=list)


class CompiledNetwork:
    """A network compiled for the CPU: images -> the network's raw maps.

    Weights that are zero at construction are skipped. Several threads can call it at the same time.
    """

    def __init__(
        self,
        network: Network,
        threads: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        calibration: Sequence[Tensor] = (),
    ) -> None:
        """Read the network, which is not changed.

        threads: the number of threads of one call. None: torch.get_num_threads() in the calling thread.
        dtype: of feature maps and weights, float32, bfloat16 or int8. Images and raw maps are float32.
        bfloat16 is fast where the CPU has AVX512_BF16, int8 where it has VNNI; other CPUs emulate them.
        calibration: for int8, batches of images, whose feature maps set the scales.
        Raises InputError for a network with operations that the engine does not support, or another dtype.
        """
        require_network(network, Network)
        if threads is not None and threads < 1:
            raise InputError(f"`threads` is {threads}; a whole number from 1 on is expected")
        if dtype not in PACKINGS:
            raise InputError(f"`dtype` is {dtype}; one of {', '.join(map(str, PACKINGS))} is expected")
        traced = trace(network)
        self._graph = traced.graph
        if dtype is torch.bfloat16:
            self._graph = pack_halves(traced.graph)
        elif dtype is torch.int8:
            self._graph = quantize(traced, calibration)
        self._threads = threads
        self._prepared: OrderedDict[tuple[int, int, int], _Prepared] = OrderedDict()
        self.choices: dict[Task, Choice] = {}
        self._lock = Lock()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the raw maps of images.

        images: float32 [batch, 3, height, width] on the CPU. Height and width are multiples of the network's
        largest stride. Raises InputError for other images.
        """
        self._check(images)
        batch, _, height, width = images.shape
        pixels = images.detach().contiguous().numpy().reshape(-1)
        with self._workspace(height, width) as (program, workspace):
            sizes = [batch * int(np.prod(sizes)) for sizes in program.outputs]
            maps = torch.empty(sum(sizes))
            run(program, program.for_batch(batch), workspace, batch, pixels, maps.numpy())
        parts = maps.split(sizes)
        return [part.view(batch, *size) for part, size in zip(parts, program.outputs, strict=True)]

    @property
    def threads(self) -> int:
        """The number of threads that a call from the current thread uses."""
        return self._threads or torch.get_num_threads()

    def program(self, height: int, width: int) -> Program:
        """Return the program for images of this size."""
        return self._get(height, width, self.threads).program

    def try_choices(self, height: int, width: int, choices: Mapping[Task, Choice]) -> Program:
        """Return a program with these choices added to the current ones. The program is not kept."""
        threads = self.threads
        return make_program(self._graph, height, width, threads, self.choices | dict(choices))

    def choose(self, choices: Mapping[Task, Choice]) -> None:
        """Use these choices from now on, instead of estimated ones."""
        with self._lock:
            changed = {task: choice for task, choice in choices.items() if self.choices.get(task) != choice}
            if changed:
                self.choices |= changed
                self._prepared.clear()

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise InputError(
                f"`images` is a {type(images).__name__}; a torch.Tensor is expected (see torch.from_numpy)"
            )
        largest = self._graph.largest
        fitting = images.ndim == 4 and images.shape[1] == 3 and len(images) > 0
        sides = fitting and all(side > 0 and side % largest == 0 for side in images.shape[2:])
        if not sides or images.dtype != torch.float32 or images.device.type != "cpu":
            raise InputError(
                f"`images` is {list(images.shape)}, {images.dtype}, on {images.device}; float32 [batch, 3, "
                f"height, width] on the CPU is expected, with height and width multiples of {largest}"
            )

    @contextmanager
    def _workspace(self, height: int, width: int) -> Iterator[tuple[Program, Workspace]]:
        threads = self.threads
        prepared = self._get(height, width, threads)
        with self._lock:
            workspace = prepared.free.pop() if prepared.free else None
        workspace = workspace or make_workspace(prepared.program, threads)
        try:
            yield prepared.program, workspace
        finally:
            with self._lock:
                prepared.free.append(workspace)

    def _get(self, height: int, width: int, threads: int) -> _Prepared:
        key = (height, width, threads)
        with self._lock:
            if key not in self._prepared:
                program = make_program(self._graph, height, width, threads, self.choices)
                self._prepared[key] = _Prepared(program)
                while len(self._prepared) > MOST_PROGRAMS:
                    self._prepared.popitem(last=False)
            self._prepared.move_to_end(key)
            return self._prepared[key]


def make_workspace(program: Program, threads: int) -> Workspace:
    """Return memory and threads for one call of a program."""
    return Workspace(
        aligned_zeros(program.floats, program.packing.arena),
        [aligned_zeros(program.sums) for _ in range(threads)],
        [aligned_zeros(program.scratch, program.packing.arena) for _ in range(threads)],
        Team(threads),
        load_kernels(program.packing.arena),
    )


def run(
    program: Program,
    rows: np.ndarray,
    workspace: Workspace,
    batch: int,
    images: np.ndarray,
    maps: np.ndarray,
) -> None:
    """Run rows of a program on a batch.

    rows: int64 [operations, WIDTH], all rows of the program or some of them.
    images: float32, flat: the pixels of the whole batch. maps: float32, flat: the raw maps are written here.
    """
    team = workspace.team
    counters = np.zeros(COUNTERS * batch * len(rows), np.int64)
    tables = tuple(program.tables)
    team.run(partial(_run_thread, rows, team.count, counters, batch, workspace, images, maps, tables))


def _run_thread(
    rows: np.ndarray,
    threads: int,
    counters: np.ndarray,
    batch: int,
    workspace: Workspace,
    images: np.ndarray,
    maps: np.ndarray,
    tables: tuple[np.ndarray, ...],
    number: int,
) -> None:
    sums, scratch = workspace.sums[number], workspace.scratch[number]
    workspace.kernels(rows, threads, counters, batch, workspace.memory, sums, scratch, images, maps, tables)
