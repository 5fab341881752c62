"""The raw maps of a batch, as they lie in the engine's memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sparsity.sparse_engine.emit import LANES
from sparsity.sparse_engine.layout import Place
from sparsity.sparse_engine.program import Program
from sparsity.sparse_engine.running import NOTHING, Workspace, run
from sparsity.yolo.cell_map import CellMap


class LaneMaps(Sequence[Tensor]):
    """The raw maps of a batch, not copied. Who needs only some cells reads them by cells().

    An element is a raw map, float32 [batch, channels, height, width]; the first access copies all of them.
    The memory of the call is used again once this object is gone. Tensors that cells() gave must not be used
    after that.
    """

    def __init__(
        self, program: Program, workspace: Workspace, batch: int, release: Callable[[Workspace], None]
    ) -> None:
        """release: called with the workspace once this object is gone."""
        self._program, self._workspace, self._batch = program, workspace, batch
        weakref.finalize(self, release, workspace).atexit = False

    def __len__(self) -> int:
        return len(self._program.outputs)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensors()[index]

    def tensors(self) -> list[Tensor]:
        """Return copies of the raw maps, float32 [batch, channels, height, width]."""
        return list(self._copies)

    def cells(self) -> list[CellMap]:
        """Return the raw maps as views of the engine's memory."""
        memory = torch.from_numpy(self._workspace.memory.view(np.float32))
        pairs = zip(self._program.places, self._program.outputs, strict=True)
        return [_cell_map(memory, place, sizes[0], self._batch) for place, sizes in pairs]

    @cached_property
    def _copies(self) -> list[Tensor]:
        program, batch = self._program, self._batch
        sizes = [batch * int(np.prod(sizes)) for sizes in program.outputs]
        maps = torch.empty(sum(sizes))
        run(program, program.for_batch(batch), self._workspace, batch, NOTHING, maps.numpy())
        pairs = zip(maps.split(sizes), program.outputs, strict=True)
        return [part.view(batch, *shape) for part, shape in pairs]


def _cell_map(memory: Tensor, place: Place, channels: int, batch: int) -> CellMap:
    cells = place.cells
    across = cells.grid[1]
    shape = (batch, channels, cells.grid[0], cells.rows, across, cells.columns)
    strides = (place.step, place.plane, across, place.pitch, 1, LANES)
    values = memory.as_strided(shape, strides, memory.storage_offset() + place.offset)
    return CellMap(values, cells.height, cells.width)
