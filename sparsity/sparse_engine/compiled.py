"""A network that runs in the sparse engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError
from sparsity.sparse_engine.choices import Choice, Task
from sparsity.sparse_engine.lane_maps import LaneMaps
from sparsity.sparse_engine.packed_graph import pack_halves
from sparsity.sparse_engine.packing import PACKINGS
from sparsity.sparse_engine.program import Program, make_program
from sparsity.sparse_engine.quantizing import quantize
from sparsity.sparse_engine.reading import trace
from sparsity.sparse_engine.running import NOTHING, Workspace, make_workspace, run
from sparsity.yolo.network import Network

MOST_PROGRAMS = 2
"""Number of image sizes whose programs are kept. Each program holds a copy of the nonzero weights."""


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
        self.graph = traced.graph
        if dtype is torch.bfloat16:
            self.graph = pack_halves(traced.graph)
        elif dtype is torch.int8:
            self.graph = quantize(traced, calibration)
        self._threads = threads
        self._prepared: OrderedDict[tuple[int, int, int], _Prepared] = OrderedDict()
        self.choices: dict[Task, Choice] = {}
        self._lock = Lock()

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the raw maps of images.

        images: float32 [batch, 3, height, width] on the CPU. Height and width are multiples of the network's
        largest stride. Raises InputError for other images.
        """
        return self.compute(images).tensors()

    @torch.inference_mode()
    def compute(self, images: Tensor) -> LaneMaps:
        """Return the raw maps of images where the engine computed them, which takes no time for a copy.

        images: see __call__.
        """
        self._check(images)
        batch, _, height, width = images.shape
        pixels = images.detach().contiguous().numpy().reshape(-1)
        program, workspace, release = self._take_workspace(height, width, batch)
        maps = LaneMaps(program, workspace, batch, release)
        run(program, program.rows, workspace, batch, pixels, NOTHING)
        return maps

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
        return make_program(self.graph, height, width, threads, self.choices | dict(choices))

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
        largest = self.graph.largest
        fitting = images.ndim == 4 and images.shape[1] == 3 and len(images) > 0
        sides = fitting and all(side > 0 and side % largest == 0 for side in images.shape[2:])
        if not sides or images.dtype != torch.float32 or images.device.type != "cpu":
            raise InputError(
                f"`images` is {list(images.shape)}, {images.dtype}, on {images.device}; float32 [batch, 3, "
                f"height, width] on the CPU is expected, with height and width multiples of {largest}"
            )

    def _take_workspace(
        self, height: int, width: int, batch: int
    ) -> tuple[Program, Workspace, Callable[[Workspace], None]]:
        """Return the program, memory for it that no other call uses, and what gives the memory back."""
        threads = self.threads
        prepared = self._get(height, width, threads)
        with self._lock:
            fitting = [one for one in prepared.free if one.batch >= batch]
            if fitting:
                prepared.free.remove(fitting[0])
            elif prepared.free:
                prepared.free.pop()
        workspace = fitting[0] if fitting else make_workspace(prepared.program, threads, batch)
        return prepared.program, workspace, prepared.free.append

    def _get(self, height: int, width: int, threads: int) -> _Prepared:
        key = (height, width, threads)
        with self._lock:
            if key not in self._prepared:
                program = make_program(self.graph, height, width, threads, self.choices)
                self._prepared[key] = _Prepared(program)
                while len(self._prepared) > MOST_PROGRAMS:
                    self._prepared.popitem(last=False)
            self._prepared.move_to_end(key)
            return self._prepared[key]
