"""Cells of a raw map that lies in blocks are those of the map itself."""

import pytest
import torch

from sparsity.yolo.cell_map import CellMap
from sparsity.yolo.heads import keep_head
from sparsity.yolo.network import build
from sparsity.yolo.yolo26.architectures import yolo26

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


@pytest.mark.parametrize("head", ["one2many", "one2one"])
def test_the_cells_that_pass_are_those_of_all_cells_decoded(head):
    network = keep_head(build(yolo26("yolo26n", nc=3), "abc"), head)
    generator = torch.Generator().manual_seed(0)
    raw = [torch.randn(2, 7, side, side, generator=generator) for side in (16, 8, 4)]
    decoded = network.head.decoded_candidates(network.head.decode(raw), 0.3)
    found = network.candidates(raw, 0.3)
    assert len(found.scores) == len(decoded.scores) > 300
    mine, theirs = (one.scores.argsort() for one in (found, decoded))
    torch.testing.assert_close(found.scores[mine], decoded.scores[theirs])
    torch.testing.assert_close(found.boxes_xyxy[mine], decoded.boxes_xyxy[theirs])
