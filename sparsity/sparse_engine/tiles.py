"""The convolution of one tile: for each nonzero weight, one multiply-add on every vector of the tile.

The tile's sums stay in registers. The weights are a stream of (number, offset of the value that it
multiplies), output by output. It contains no zeros, so zeros cost no time. For layers with few zeros, a
smaller tile computes several outputs together, with all weights. Each value that it loads is then used
several times. In packed maps (see packing), a weight is two or four weights, and a multiply-add adds as
many products.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsity.sparse_engine.arrays import LINE_FLOATS
from sparsity.sparse_engine.emit import (
    FLOAT,
    INT32,
    INT64,
    INT_VECTOR,
    LANES,
    VECTOR,
    activate,
    data_of,
    load,
    multiply_add,
    splat,
    store,
)
from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.operations import Activation
from sparsity.sparse_engine.packed import add_products, pack, unpack
from sparsity.sparse_engine.packing import FLOAT32, INT8, Packing, packing_of

STRIDES = (1, 2)
_FLOATS, _INTS, _LONGS = FLOAT.as_pointer(), INT32.as_pointer(), INT64.as_pointer()
_FINISH = ir.FunctionType(
    ir.VoidType(),
    [
        *(INT64, INT64, _FLOATS),  # rows, columns, sums
        *(_FLOATS, INT64),  # results, their pitch
        *(_FLOATS, INT64, INT64),  # residual, its pitch, whether there is one
        *(INT64, FLOAT),  # activation, slope
        *(_FLOATS, INT64),  # the first output's bias, and how far its scales are from it and from each other
    ],
)
_TILE = ir.FunctionType(
    ir.VoidType(),
    [
        *(_FLOATS, INT64),  # source, its pitch
        *(_FLOATS, _INTS, _LONGS, _FLOATS),  # weights, offsets, starts of each output's weights, biases
        *(INT64, _FLOATS),  # outputs, their sums
        *(INT64, INT64),  # whether this block of input channels is the first, the last
        *(_FLOATS, INT64, INT64),  # results, their pitch and plane
        *(_FLOATS, INT64, INT64, INT64),  # residual, its pitch and plane, whether there is one
        *(INT64, FLOAT),  # activation, slope
        INT64,  # whether each output has a number of the result for itself
        INT64,  # outputs of the whole layer
    ],
)


@intrinsic
def convolve_tile(  # noqa: ANN201
    typingctx,  # noqa: ANN001
    shape,  # noqa: ANN001
    memory,  # noqa: ANN001
    source,  # noqa: ANN001
    pitch,  # noqa: ANN001
    values,  # noqa: ANN001
    offsets,  # noqa: ANN001
    starts,  # noqa: ANN001
    start,  # noqa: ANN001
    bias,  # noqa: ANN001
    outputs,  # noqa: ANN001
    sums,  # noqa: ANN001
    first,  # noqa: ANN001
    last,  # noqa: ANN001
    result,  # noqa: ANN001
    result_pitch,  # noqa: ANN001
    result_plane,  # noqa: ANN001
    residual,  # noqa: ANN001
    residual_pitch,  # noqa: ANN001
    residual_plane,  # noqa: ANN001
    activation,  # noqa: ANN001
    slope,  # noqa: ANN001
    single,  # noqa: ANN001
    layer_outputs,  # noqa: ANN001
):
    """Compute some outputs of one tile, or the contribution of one block of input channels to them.

    shape: index into kernels(). memory: the arena.
    source, result, residual: offsets in memory, of the tile's first cell in the first channel; residual is -1
    for none. *pitch, *plane: floats from row to row, and from channel to channel.
    values, offsets: the streams. starts[start + i]: where the weights of output i, or of group i, begin.
    bias: the index in values of the first output's bias.
    sums: float32, aligned, the tile's size for each output.
    first: whether this is the first block, whose sums begin with the biases.
    last: whether this is the last block, after which the results are complete.
    single: whether the result is float32 in a packed arena, as raw maps are. Not used in others.
    layer_outputs: the number of outputs of the whole layer.
    """
    i, f = types.int64, types.float32
    signature = types.void(
        *(i, memory, i, i, values, offsets, starts, i, i, i, sums, i, i, i, i, i, i, i, i, i, f, i, i)
    )
    return signature, _generate_call


def _generate_call(context, builder, signature, arguments):  # noqa: ANN001, ANN202
    (shape, _, source, pitch, _, _, _, start, bias, outputs, _, first, last) = arguments[:13]
    (result, result_pitch, result_plane, residual, residual_pitch, residual_plane) = arguments[13:19]
    memory, values, offsets, starts, sums = (
        data_of(context, builder, signature, arguments, place) for place in (1, 4, 5, 6, 10)
    )
    memory = builder.bitcast(memory, _FLOATS)
    call = [
        *(builder.gep(memory, [source]), pitch),
        *(values, offsets, builder.gep(starts, [start]), builder.gep(values, [bias])),
        *(outputs, sums, first, last),
        *(builder.gep(memory, [result]), result_pitch, result_plane),
        *(builder.gep(memory, [residual]), residual_pitch, residual_plane),
        builder.zext(builder.icmp_signed(">=", residual, INT64(0)), INT64),
        *arguments[19:],
    ]
    done = builder.append_basic_block("convolved")
    switch = builder.switch(shape, done)
    for index, kernel in enumerate(kernels(packing_of(signature.args[1]))):
        with builder.goto_block(builder.append_basic_block(f"tile{index}")):
            switch.add_case(INT64(index), builder.block)
            builder.call(_tile_function(builder.module, kernel), call)
            builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: the rows and columns of vectors in its tile, the stride, and the outputs per group.

    group: outputs that are computed together: 1 with a stream of nonzero weights, more with all weights.
    packing: of the maps.
    """

    rows: int
    columns: int
    stride: int
    group: int
    packing: Packing

    @property
    def name(self) -> str:
        shape = f"tile_{self.rows}x{self.columns}_stride{self.stride}_group{self.group}"
        return f"{shape}_{self.packing.name}"

    @property
    def streams(self) -> int:
        """How many streams of weights are added one after another before their results are stored."""
        return max(1, self.packing.share // self.group)

    @property
    def outputs(self) -> int:
        """How many outputs' results are stored together."""
        return self.streams * self.group

    @property
    def cells(self) -> list[tuple[int, int]]:
        """The row and column of each vector."""
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]


def kernels(packing: Packing) -> list[Kernel]:
    """Return all kernels that are compiled for a packing, for every stride and tile of this machine."""
    tiles = [*((*tile, 1) for tile in MACHINE.tiles), *MACHINE.dense_tiles_of(packing.share)]
    return [
        Kernel(rows, columns, stride, group, packing) for stride in STRIDES for rows, columns, group in tiles
    ]


def _function(module: ir.Module, kind: ir.FunctionType, name: str) -> tuple[ir.Function, bool]:
    """Return a private function of the module, and whether it is new. A new one has no body yet."""
    if name in module.globals:
        return module.globals[name], False
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function, True


def _tile_function(module: ir.Module, kernel: Kernel) -> ir.Function:
    function, new = _function(module, _TILE, kernel.name)
    if new:
        _write_tile(function, kernel)
    return function


def _write_tile(function: ir.Function, kernel: Kernel) -> None:
    """Write the loop over outputs: load the sums, add the products, store the sums, finish."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    outputs, sums, first, last = function.args[6:10]
    size = len(kernel.cells) * LANES
    registers = [[cgutils.alloca_once(builder, VECTOR) for _ in kernel.cells] for _ in range(kernel.group)]
    steps = builder.udiv(outputs, INT64(kernel.outputs))
    with cgutils.for_range_slice(builder, INT64(0), steps, INT64(1), intp=INT64) as (step, _):
        numbers = [
            builder.add(builder.mul(step, INT64(kernel.outputs)), INT64(i)) for i in range(kernel.outputs)
        ]
        places = [builder.gep(sums, [builder.mul(number, INT64(size))]) for number in numbers]
        with builder.if_then(builder.icmp_signed("!=", last, INT64(0))):
            _prefetch_next(builder, function, kernel, numbers)
        for part in range(kernel.streams):
            mine = slice(part * kernel.group, (part + 1) * kernel.group)
            stream = builder.add(builder.mul(step, INT64(kernel.streams)), INT64(part))
            with builder.if_else(builder.icmp_signed("!=", first, INT64(0))) as (begin, go_on):
                with begin:
                    _load_biases(builder, function, numbers[mine], registers)
                with go_on:
                    _move_sums(builder, places[mine], registers, storing=False)
            _add_all(builder, function, kernel, stream, registers)
            _move_sums(builder, places[mine], registers, storing=True)
        with builder.if_then(builder.icmp_signed("!=", last, INT64(0))):
            _finish_outputs(builder, function, kernel, places, numbers)
    builder.ret_void()


def _prefetch_next(builder: ir.IRBuilder, tile: ir.Function, kernel: Kernel, numbers: list[ir.Value]) -> None:
    """Prefetch the results of the outputs after these."""
    shared = kernel.packing.share
    for number in numbers[::shared]:
        following = builder.add(number, INT64(kernel.outputs))
        _prefetch_results(builder, tile, kernel, builder.udiv(following, INT64(shared)))


def _finish_outputs(
    builder: ir.IRBuilder,
    tile: ir.Function,
    kernel: Kernel,
    places: list[ir.Value],
    numbers: list[ir.Value],
) -> None:
    """Turn the sums of these outputs into results."""
    share = kernel.packing.share
    with builder.if_else(builder.icmp_signed("!=", tile.args[19], INT64(0))) as (alone, together):
        with alone:
            for number, place in zip(numbers, places, strict=True):
                _finish(builder, tile, kernel, place, number, 1)
        with together:
            for number, place in zip(numbers[::share], places[::share], strict=True):
                _finish(builder, tile, kernel, place, number, share)


def _load_biases(
    builder: ir.IRBuilder, tile: ir.Function, numbers: list[ir.Value], registers: list[list[ir.Value]]
) -> None:
    for number, mine in zip(numbers, registers, strict=True):
        bias = splat(builder, builder.load(builder.gep(tile.args[5], [number])))
        for register in mine:
            builder.store(bias, register)


def _move_sums(
    builder: ir.IRBuilder, places: list[ir.Value], registers: list[list[ir.Value]], *, storing: bool
) -> None:
    for place, mine in zip(places, registers, strict=True):
        for index, register in enumerate(mine):
            if storing:
                store(builder, builder.load(register), place, index * LANES)
            else:
                builder.store(load(builder, place, index * LANES), register)


def _prefetch_results(builder: ir.IRBuilder, tile: ir.Function, kernel: Kernel, channel: ir.Value) -> None:
    """Prefetch a channel's lines of the results, because a store to a line outside the cache waits."""
    result, pitch, plane = tile.args[10:13]
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, INT32, INT32, INT32])
    prefetch = cgutils.get_or_insert_function(tile.module, kind, "llvm.prefetch.p0")
    begin = builder.mul(channel, plane)
    floats = kernel.columns * LANES
    for row in range(kernel.rows):
        place = builder.gep(result, [builder.add(begin, builder.mul(pitch, INT64(row)))])
        for line in range(0, floats + LINE_FLOATS - 1, LINE_FLOATS):
            there = builder.bitcast(builder.gep(place, [INT64(min(line, floats - 1))]), pointer)
            builder.call(prefetch, [there, INT32(1), INT32(3), INT32(1)])


def _add_all(
    builder: ir.IRBuilder,
    tile: ir.Function,
    kernel: Kernel,
    stream: ir.Value,
    registers: list[list[ir.Value]],
) -> None:
    """Add all products of a stream of weights, which belong to one output or to a group of them.

    The weights of several outputs alternate. Their shared offsets, which are fewer, begin at the same index.
    """
    source, pitch, values, offsets, starts = tile.args[:5]
    begin, end = (builder.load(builder.gep(starts, [builder.add(stream, INT64(i))])) for i in (0, 1))
    count = builder.udiv(builder.sub(end, begin), INT64(kernel.group))
    mine, places = builder.gep(values, [begin]), builder.gep(offsets, [begin])
    with cgutils.for_range_slice(builder, INT64(0), count, INT64(1), intp=INT64) as (index, _):
        numbers = builder.gep(mine, [builder.mul(index, INT64(kernel.group))])
        weights = [
            splat(builder, builder.load(builder.gep(numbers, [INT64(i)]))) for i in range(kernel.group)
        ]
        offset = builder.sext(builder.load(builder.gep(places, [index])), INT64)
        _add_products(builder, kernel, weights, builder.gep(source, [offset]), pitch, registers)


def _add_products(
    builder: ir.IRBuilder,
    kernel: Kernel,
    weights: list[ir.Value],
    place: ir.Value,
    pitch: ir.Value,
    registers: list[list[ir.Value]],
) -> None:
    """Add the products of each weight and the tile's cells to the weight's registers."""
    starts = {0: place}
    for index, (row, column) in enumerate(kernel.cells):
        if row not in starts:
            starts[row] = builder.gep(place, [builder.mul(pitch, INT64(row * kernel.stride))])
        vector = load(builder, starts[row], column * kernel.stride * LANES)
        for weight, mine in zip(weights, registers, strict=True):
            total = add_products(builder, kernel.packing, weight, vector, builder.load(mine[index]))
            builder.store(total, mine[index])


def _finish(
    builder: ir.IRBuilder,
    tile: ir.Function,
    kernel: Kernel,
    place: ir.Value,
    number: ir.Value,
    count: int,
) -> None:
    """Call the function that turns the sums of count outputs, from number on, into a channel."""
    result, pitch, plane, residual, residual_pitch, residual_plane, has_residual, activation, slope = (
        tile.args[10:19]
    )
    function, new = _function(tile.module, _FINISH, f"finish_{count}_{kernel.packing.name}")
    if new:
        _write_finish(function, kernel.packing, count)
    channel = builder.udiv(number, INT64(count))
    to = builder.gep(result, [builder.mul(channel, plane)])
    added = builder.gep(residual, [builder.mul(channel, residual_plane)])
    sides, numbers = [INT64(kernel.rows), INT64(kernel.columns)], builder.gep(tile.args[5], [number])
    common = [to, pitch, added, residual_pitch, has_residual, activation, slope]
    builder.call(function, [*sides, place, *common, numbers, tile.args[20]])


def _write_finish(function: ir.Function, packing: Packing, count: int) -> None:
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    activation, has_residual = function.args[8], function.args[7]
    done = function.append_basic_block("done")
    switch = builder.switch(activation, done)
    for kind in Activation:
        block = function.append_basic_block(kind.name.lower())
        switch.add_case(INT64(int(kind)), block)
        builder.position_at_end(block)
        with builder.if_else(builder.icmp_signed("!=", has_residual, INT64(0))) as (adding, plain):
            with adding:
                _write_results(builder, function, packing, count, kind, adds=True)
            with plain:
                _write_results(builder, function, packing, count, kind, adds=False)
        builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()


def _write_results(
    builder: ir.IRBuilder,
    function: ir.Function,
    packing: Packing,
    count: int,
    kind: Activation,
    *,
    adds: bool,
) -> None:
    """Apply the activation to the sums, add the residual where adds, and store the results.

    count: outputs in a channel of the result: share of the packing, or 1 for float32 results.
    """
    rows, columns, sums, result, pitch, residual, residual_pitch, _, _, slope, numbers, apart = function.args
    slopes = splat(builder, slope)
    scales = _Scales(builder, numbers, apart, packing, count)
    one = INT64(1)
    size = builder.mul(builder.mul(rows, columns), INT64(LANES))
    with cgutils.for_range_slice(builder, INT64(0), rows, one, intp=INT64) as (row, _):
        begin = builder.mul(row, builder.mul(columns, INT64(LANES)))
        to, added = builder.mul(row, pitch), builder.mul(row, residual_pitch)
        with cgutils.for_range_slice(builder, INT64(0), columns, one, intp=INT64) as (column, _):
            step = builder.mul(column, INT64(LANES))
            inside = builder.add(begin, step)
            places = [builder.add(inside, builder.mul(size, INT64(i))) for i in range(count)]
            found = scales.numbers([load(builder, sums, place) for place in places])
            found = [activate(builder, x, kind, slopes) for x in found]
            if adds and (packing is FLOAT32 or count > 1):
                terms = unpack(builder, packing, load(builder, residual, builder.add(added, step)))
                found = scales.add(found, terms)
            stored = found[0] if count == 1 else pack(builder, packing, scales.bytes(found))
            store(builder, stored, result, builder.add(to, step))


class _Scales:
    """The scales of the outputs that share a channel: for bytes only; other numbers stay as they are."""

    def __init__(
        self, builder: ir.IRBuilder, numbers: ir.Value, apart: ir.Value, packing: Packing, count: int
    ) -> None:
        """Load the scales. They lie behind the biases, `apart` numbers from one kind to the next."""
        self.builder, self.scaled = builder, packing is INT8
        self.kinds: list[list[ir.Value]] = [[], [], []]
        for kind, found in enumerate(self.kinds if self.scaled else []):
            for index in range(count):
                place = builder.add(builder.mul(apart, INT64(kind + 1)), INT64(index))
                found.append(splat(builder, builder.load(builder.gep(numbers, [place]))))

    def numbers(self, sums: list[ir.Value]) -> list[ir.Value]:
        """Return what sums stand for."""
        if not self.scaled:
            return sums
        whole = [self.builder.sitofp(self.builder.bitcast(one, INT_VECTOR), VECTOR) for one in sums]
        return list(map(self.builder.fmul, whole, self.kinds[0]))

    def add(self, found: list[ir.Value], terms: list[ir.Value]) -> list[ir.Value]:
        """Return the results plus the residual's terms."""
        if self.scaled:
            return [
                multiply_add(self.builder, term, scale, x)
                for x, term, scale in zip(found, terms, self.kinds[2], strict=True)
            ]
        return list(map(self.builder.fadd, found, terms))

    def bytes(self, found: list[ir.Value]) -> list[ir.Value]:
        """Return results, multiplied to be rounded to bytes."""
        return list(map(self.builder.fmul, found, self.kinds[1])) if self.scaled else found
