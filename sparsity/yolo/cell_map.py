"""A raw map whose cells can lie in blocks, and the cells in it that pass a threshold."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cells:
    """Some cells of a raw map.

    values: float32 [n, channels]. image, row, column: int64 [n], the place of each.
    """

    values: Tensor
    image: Tensor
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class CellMap:
    """A raw map, divided into a grid of blocks of the same size.

    values: [batch, channels, grid rows, rows of a block, grid columns, columns of a block]. Blocks can extend
    beyond the map; the values there mean nothing.
    height, width: of the map, in cells.
    """

    values: Tensor
    height: int
    width: int

    @classmethod
    def of(cls, raw: Tensor) -> CellMap:
        """Return a raw map [batch, channels, height, width] as one block. Nothing is copied."""
        return cls(raw[:, :, None, :, None, :], *raw.shape[2:])

    def select(self, mask: Tensor) -> Cells:
        """Return the cells where mask is set, ordered by image, row and column.

        mask: bool, the shape of values without the channels.
        """
        image, down, row, right, column = mask.nonzero().unbind(1)
        rows, columns = self.values.shape[3], self.values.shape[5]
        y, x = down * rows + row, right * columns + column
        values = self.values.permute(0, 2, 3, 4, 5, 1)[image, down, row, right, column].float()
        if self.height == rows * self.values.shape[2] and self.width == columns * self.values.shape[4]:
            return Cells(values, image, y, x)
        inside = (y < self.height) & (x < self.width)
        return Cells(values[inside], image[inside], y[inside], x[inside])
