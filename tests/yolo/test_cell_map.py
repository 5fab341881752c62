"""Cells of a raw map that lies in blocks are those of the map itself."""

import torch

from sparsity.yolo.cell_map import CellMap

HEIGHT, WIDTH, ROWS, COLUMNS = 5, 7, 2, 4
"""Of a map that 3 x 2 blocks of 2 x 4 cells cover; the last blocks extend beyond it."""


def in_blocks(raw):
    """Return the map in blocks, with values beyond its edge that would pass any threshold."""
    batch, channels = raw.shape[:2]
    padded = torch.full((batch, channels, 3 * ROWS, 2 * COLUMNS), 9.0)
    padded[:, :, :HEIGHT, :WIDTH] = raw
    return CellMap(padded.view(batch, channels, 3, ROWS, 2, COLUMNS), HEIGHT, WIDTH)


def test_cells_in_blocks_come_in_the_order_of_the_map():
    raw = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    whole, blocks = CellMap.of(raw), in_blocks(raw)
    ours, theirs = (one.select(one.values[:, 0] > 0) for one in (blocks, whole))
    image, row, column = (raw[:, 0] > 0).nonzero().unbind(1)
    for found in (ours, theirs):
        assert (found.image.tolist(), found.row.tolist()) == (image.tolist(), row.tolist())
        assert found.column.tolist() == column.tolist()
        assert torch.equal(found.values, raw[image, :, row, column])


def test_a_map_as_one_block_is_not_copied():
    raw = torch.zeros(1, 2, HEIGHT, WIDTH)
    assert CellMap.of(raw).values.data_ptr() == raw.data_ptr()


def test_no_cell_passes():
    assert (
        len(
            in_blocks(torch.zeros(1, 3, HEIGHT, WIDTH)).select(torch.zeros(1, 3, ROWS, 2, COLUMNS) > 0).values
        )
        == 0
    )
