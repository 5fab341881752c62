"""What a program is made of: a row of whole numbers for each operation, its columns named here."""

from __future__ import annotations

from enum import IntEnum


class Activation(IntEnum):
    """What follows a convolution."""

    NONE = 0
    SILU = 1
    RELU = 2
    LEAKY_RELU = 3
    HARDSWISH = 4


class Kind(IntEnum):
    """What an operation does."""

    INPUT = 0
    CONVOLVE = 1
    MOVE = 2
    POOL = 3
    HALO = 4
    OUTPUT = 5


class At(IntEnum):
    """Columns that all operations have. Places are in floats, in the arena; counts and cells are local,
    that is of one lane.

    items: how many pieces the work falls into. channels: of the result. per_item: channels of a piece.
    """

    KIND = 0
    ITEMS = 1
    SOURCE = 2
    SOURCE_PITCH = 3
    SOURCE_PLANE = 4
    RESULT = 5
    RESULT_PITCH = 6
    RESULT_PLANE = 7
    ROWS = 8
    COLUMNS = 9
    CHANNELS = 10
    PER_ITEM = 11


class Conv(IntEnum):
    """Further columns of CONVOLVE. Spans: pieces that the outputs fall into. Blocks: of input channels.

    group: outputs that are computed at a time.
    """

    TILE_ROWS = 12
    TILE_COLUMNS = 13
    SHAPE = 14
    STRIDE = 15
    SPANS = 16
    BLOCKS = 17
    STARTS = 18
    BIAS = 19
    ACTIVATION = 20
    RESIDUAL = 21
    RESIDUAL_PITCH = 22
    RESIDUAL_PLANE = 23
    SLOPE = 24
    GROUP = 25


class Move(IntEnum):
    """Further columns of MOVE: a result's cell (y, x) is the source's (y x step >> shift + row, ...)."""

    STEP = 12
    SHIFT = 13
    ROW = 14
    COLUMN = 15


class Whole(IntEnum):
    """Further columns of INPUT and OUTPUT: the map's true height and width, the lanes' grid.

    image: the place of the first image's in the images' or maps' own array.
    """

    HEIGHT = 12
    WIDTH = 13
    GRID_ROWS = 14
    GRID_COLUMNS = 15
    IMAGE = 16


class Halo(IntEnum):
    """Further columns of HALO and POOL: where in the tables its moves and its beyond-the-edge floats are.

    reach: how many cells to each side POOL looks at.
    """

    MOVES = 12
    MOVE_COUNT = 13
    EDGES = 14
    EDGE_COUNT = 15
    REACH = 16


WIDTH = 26
"""Columns of a program."""
