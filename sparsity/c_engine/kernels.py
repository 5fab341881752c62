"""Writes the C kernels that depend on a plan: the convolution of each tile, and the shifts of lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparsity.sparse_engine.machine import GRIDS_OF
from sparsity.sparse_engine.moves import shift_sources


@dataclass(frozen=True)
class Tile:
    """A kernel: rows and columns of vectors, the stride, and the outputs that are computed together."""

    rows: int
    columns: int
    stride: int
    group: int

    @property
    def name(self) -> str:
        return f"tile_{self.rows}x{self.columns}_stride{self.stride}_group{self.group}"


def tile_function(tile: Tile) -> str:
    """Return the C function of a tile. Its sums are separate variables, so that they stay in registers."""
    size, outputs = tile.rows * tile.columns, range(tile.group)
    sums = [[f"s{output}_{cell}" for cell in range(size)] for output in outputs]
    lines = [f"static void {tile.name}(const struct tile *t)", "{"]
    lines += ["    const ptrdiff_t pitch = t->pitch;"] if tile.rows > 1 else []
    lines += [
        "    const float *const source = t->source;",
        "    const number *values = t->values;",
        "    const int32_t *const offsets = t->offsets;",
        f"    for (int o = 0; o < t->outputs; o += {tile.group}) {{",
        f"        float *sums = t->sums + o * {size} * LANES;",
        *(f"        vec {', '.join(row)};" for row in sums),
        "        if (t->last)",
        *_indented(12, _prefetches(tile)),
        "        if (t->first) {",
        *(f"            {' = '.join(row)} = splat(t->bias[o + {i}]);" for i, row in enumerate(sums)),
        "        } else {",
        *(f"            {one} = LOAD(sums + {i} * LANES);" for i, one in enumerate(_flat(sums))),
        "        }",
        *_loop(tile),
        *_indented(12, _products(tile, sums)),
        "        }",
        *(f"        STORE(sums + {i} * LANES, {one});" for i, one in enumerate(_flat(sums))),
        "        if (t->last)",
        f"            for (int i = 0; i < {tile.group}; i++)",
        f"                finish(t, o + i, sums + i * {size} * LANES, {tile.rows}, {tile.columns});",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def shift_function(lanes: int, cases: Iterable[tuple[int, int, int]]) -> str:
    """Return the C function that copies vectors with their lanes shifted to the neighbouring blocks.

    cases: the index of a grid (see machine.GRIDS_OF), and the rows and columns of blocks to the source.
    """
    lines = [
        "static UNUSED void shift(int which, float *to, const float *from, int count, vec fill)",
        "{",
        "    switch (which) {",
    ]
    for grid, down, right in sorted(set(cases)):
        sources = shift_sources(GRIDS_OF[lanes][grid], down, right)
        order = ", ".join(str(lanes if source < 0 else source) for source in sources)
        lines += [
            f"    case SHIFT_CASE({grid}, {down}, {right}):",
            f"        SHIFT({order})",
            "        break;",
        ]
    lines += ["    default:", "        break;", "    }", "}"]
    return "\n".join(lines) + "\n"


def transpose_function(lanes: int) -> str:
    """Return the C function that makes lane j of vector i lane i of vector j. It swaps growing blocks."""
    lines = ["static UNUSED void transpose(vec r[LANES])", "{", "    vec a, b;"]
    size = 1
    while size < lanes:
        upper = ", ".join(str(lanes + j - size if j & size else j) for j in range(lanes))
        lower = ", ".join(str(lanes + j if j & size else j + size) for j in range(lanes))
        for i in range(lanes):
            if not i & size:
                other = i + size
                lines.append(f"    a = r[{i}], b = r[{other}];")
                lines.append(f"    r[{i}] = SHUFFLE(a, b, {upper});")
                lines.append(f"    r[{other}] = SHUFFLE(a, b, {lower});")
        size *= 2
    return "\n".join([*lines, "}"]) + "\n"


def _loop(tile: Tile) -> list[str]:
    if tile.group == 1:
        return ["        for (uint32_t i = t->starts[o], end = t->starts[o + 1]; i < end; i++) {"]
    return [f"        for (int i = 0; i < t->taps; i++, values += {tile.group}) {{"]


def _products(tile: Tile, sums: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines that add the products of one weight, or of a group of them, to all sums."""
    if tile.group == 1:
        lines = ["const vec w0 = splat(values[i]);"]
    else:
        lines = [f"const vec w{i} = splat(values[{i}]);" for i in range(tile.group)]
    lines.append("const float *p0 = source + offsets[i];")
    for row in range(tile.rows):
        if row:
            lines.append(f"const float *p{row} = p{row - 1} + {tile.stride} * pitch;")
        for column in range(tile.columns):
            cell = row * tile.columns + column
            load = f"LOAD(p{row} + {column * tile.stride} * LANES)"
            if tile.group == 1:
                lines.append(f"{sums[0][cell]} = w0 * {load} + {sums[0][cell]};")
            else:
                lines.append(f"const vec x{cell} = {load};")
                lines += [f"{one[cell]} = w{i} * x{cell} + {one[cell]};" for i, one in enumerate(sums)]
    return lines


def _prefetches(tile: Tile) -> list[str]:
    return [
        f"for (int i = {tile.group}; i < {2 * tile.group}; i++)",
        f"    prefetch(t, o + i, {tile.rows}, {tile.columns});",
    ]


def _flat(sums: Sequence[Sequence[str]]) -> list[str]:
    return [one for row in sums for one in row]


def _indented(spaces: int, lines: Iterable[str]) -> list[str]:
    return [" " * spaces + line for line in lines]
