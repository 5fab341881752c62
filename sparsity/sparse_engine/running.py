"""Runs a program: its memory, and the threads that share its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparsity.sparse_engine.arrays import aligned_zeros
from sparsity.sparse_engine.build import load_kernels
from sparsity.sparse_engine.kernels import COUNTERS
from sparsity.sparse_engine.program import Program
from sparsity.sparse_engine.team import Team

NOTHING = np.zeros(0, np.float32)
"""In the place of images or raw maps, for rows that use none."""


@dataclass(eq=False)
class Workspace:
    """The memory and the threads of one call. Calls that run at the same time have separate workspaces.

    batch: how many images' raw maps fit into memory.
    """

    memory: np.ndarray
    batch: int
    sums: list[np.ndarray]
    scratch: list[np.ndarray]
    team: Team
    kernels: Callable[..., None]


def make_workspace(program: Program, threads: int, batch: int = 1) -> Workspace:
    """Return memory and threads for one call of a program on a batch of at most this size."""
    return Workspace(
        aligned_zeros(program.floats + batch * program.per_image, program.packing.arena),
        batch,
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

    rows: int64 [operations, WIDTH], all rows of the program or some of them; or those that copy its raw maps.
    images: float32, flat: the pixels of the whole batch. maps: float32, flat: raw maps are copied here.
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
