"""The format of a program: one row of int64 numbers per operation. The columns are named here."""

from __future__ import annotations

from enum import IntEnum


class Activation(IntEnum):
    """The activation after a convolution."""

    NONE = 0
    SILU = 1
    RELU = 2
    LEAKY_RELU = 3
    HARDSWISH = 4


class Kind(IntEnum):
    """The kinds of operation."""

    INPUT = 0
    CONVOLVE = 1
    MOVE = 2
    POOL = 3
    HALO = 4
    OUTPUT = 5
    ATTEND = 6


class At(IntEnum):
    """Columns of all operations.

    SOURCE and RESULT are offsets in the arena, in floats. Those of the next image of a batch lie STEP floats
    further on, 0 for maps that all images use in turn. ROWS and COLUMNS are cells of one block.
    ITEMS: the number of work items. CHANNELS: channels of the result. PER_ITEM: channels per work item.
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
    SOURCE_STEP = 12
    RESULT_STEP = 13


class Conv(IntEnum):
    """Additional columns of CONVOLVE.

    SPANS: the number of parts of the outputs. BLOCKS: the number of blocks of input channels.
    GROUP: outputs that are computed together. STREAMS: streams of weights of these outputs.
    SHARED: outputs that share a number of the result (see packing).
    """

    TILE_ROWS = 14
    TILE_COLUMNS = 15
    SHAPE = 16
    STRIDE = 17
    SPANS = 18
    BLOCKS = 19
    STARTS = 20
    BIAS = 21
    ACTIVATION = 22
    RESIDUAL = 23
    RESIDUAL_PITCH = 24
    RESIDUAL_PLANE = 25
    RESIDUAL_STEP = 26
    SLOPE = 27
    GROUP = 28
    STREAMS = 29
    SHARED = 30


class Move(IntEnum):
    """Additional columns of MOVE.

    The result's row y is the source's row (y * STEP >> SHIFT) + ROW. The same applies to columns.
    """

    STEP = 14
    SHIFT = 15
    ROW = 16
    COLUMN = 17


class Whole(IntEnum):
    """Additional columns of INPUT and OUTPUT: the height and width of the whole map, and the grid of blocks.

    IMAGE: the offset of the first image's part in the array of images or raw maps.
    DEPTH: the number of channels in that array. SHARED: how many of them share a number of the arena.
    SCALE: the index in slopes of what pixels are multiplied with.
    """

    HEIGHT = 14
    WIDTH = 15
    GRID_ROWS = 16
    GRID_COLUMNS = 17
    IMAGE = 18
    DEPTH = 19
    SHARED = 20
    SCALE = 21


class Halo(IntEnum):
    """Additional columns of HALO and POOL.

    MOVES, EDGES: where the operation's moves and its cells beyond the edge begin in the tables.

    REACH: how many cells POOL covers on each side.
    """

    MOVES = 14
    MOVE_COUNT = 15
    EDGES = 16
    EDGE_COUNT = 17
    REACH = 18


class Attend(IntEnum):
    """Additional columns of ATTEND.

    HEADS; KEYS, VALUES: channels of a head (see graph.Attention). AREAS: their number. CELLS: in each area.
    SPANS: the number of parts that the cells of an area are divided into.
    SOURCE_CELLS, RESULT_CELLS: the index in edges of each cell's offset, row by row.
    SCALES: the index in values of the scales of keys, which those of values follow.
    SHARED: how many channels share a number of the arena.
    """

    HEADS = 14
    KEYS = 15
    VALUES = 16
    AREAS = 17
    CELLS = 18
    SPANS = 19
    SOURCE_CELLS = 20
    RESULT_CELLS = 21
    SCALES = 22
    SHARED = 23


WIDTH = 31
"""The number of columns of a program."""
