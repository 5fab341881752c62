"""Reads a network as a graph of steps.

It works for any blocks that consist of known operations. Operations that need no step are folded here:
batch norms, activations after a convolution, additions, and concatenations and splits of channels.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn

from sparsity.base.errors import InputError
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Moving, Pooling, Step
from sparsity.sparse_engine.operations import Activation
from sparsity.yolo.attention import attend
from sparsity.yolo.network import Network, fuse

ACTIVATIONS = {
    nn.SiLU: Activation.SILU,
    nn.ReLU: Activation.RELU,
    nn.LeakyReLU: Activation.LEAKY_RELU,
    nn.Hardswish: Activation.HARDSWISH,
}

Value: TypeAlias = "Map | Tensor | list[Value] | None"
"""The value of an operation. A tensor is a parameter or a buffer of the network."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph beside the operations that it was read from.

    network: the fused network. operations: its own, in order. nodes: those whose value is a map of the graph.
    orders: maps with another order of channels than the operation's value -> the channels of the value, int64
    [channels], in the order of the map.
    """

    graph: Graph
    network: Network
    operations: fx.Graph
    nodes: Mapping[fx.Node, Map]
    orders: Mapping[Map, np.ndarray]


def read_graph(network: Network) -> Graph:
    """Return the steps of a network, which is not changed. Raises InputError where trace does."""
    return trace(network).graph


def trace(network: Network) -> Traced:
    """Return the steps of a network, which is not changed, and its operations.

    Raises InputError for a network with operations that the engine does not support.
    """
    fused = fuse(copy.deepcopy(network)).eval().cpu().float()
    reader = _Reader(fused)
    outputs = reader.read()
    graph = Graph(
        image=reader.image,
        steps=tuple(reader.steps),
        outputs=tuple(outputs),
        largest=network.largest_stride,
        depths=tuple(one.channels for one in outputs),
    )
    nodes = {node: value for node, value in reader.values.items() if isinstance(value, Map)}
    return Traced(graph, fused, reader.trace, nodes, reader.orders)


@dataclass(eq=False)
class _Reader:
    network: Network
    steps: list[Step] = field(default_factory=list)
    image: Map = field(default_factory=lambda: Map(3, 1))
    values: dict[fx.Node, Value] = field(default_factory=dict)
    trace: fx.Graph = field(default_factory=fx.Graph)
    orders: dict[Map, np.ndarray] = field(default_factory=dict)

    def read(self) -> list[Map]:
        """Add the steps of all operations, and return the raw maps."""
        outputs: list[Map] = []
        self.trace = fx.Tracer(autowrap_functions=(attend,)).trace(self.network)
        for node in self.trace.nodes:
            if node.op == "placeholder":
                self.values[node] = self.image
            elif node.op == "output":
                outputs = [self.values[one] for one in node.args[0]]
            elif node.op == "call_module":
                self.values[node] = self._module(node)
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(node.target)(self.network).detach()
            else:
                self.values[node] = self._operation(node)
        return outputs

    def _module(self, node: fx.Node) -> Map:
        module, x = self.network.get_submodule(node.target), self._source(node)
        if isinstance(module, nn.Identity):
            return x
        if isinstance(module, nn.Conv2d):
            return self._convolve(node.target, x, module)
        if isinstance(module, nn.BatchNorm2d):
            return self._scale(node.target, x, *_scale_and_shift(module))
        if type(module) in ACTIVATIONS:
            return self._activate(node, x, module)
        if isinstance(module, nn.MaxPool2d):
            return self._pool(node, x, module)
        if isinstance(module, nn.Upsample):
            return self._upsample(node, x, module)
        raise _unknown(f"a {type(module).__name__} ({node.target})")

    def _convolve(self, name: str, x: Map, conv: nn.Conv2d) -> Map:
        sides = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        if any(not isinstance(side, tuple) or len(set(side)) != 1 for side in sides):
            raise _unknown(f"a convolution that is not square ({name})")
        kernel, stride, padding, dilation = (side[0] for side in sides)
        over = 2 * padding - dilation * (kernel - 1) - 1 + stride
        if stride > 2 or not 0 <= over < stride or conv.padding_mode != "zeros":
            raise _unknown(f"kernel {kernel}, stride {stride}, padding {padding} of a convolution ({name})")
        weight = conv.weight.detach().numpy()
        bias = np.zeros(len(weight), np.float32) if conv.bias is None else conv.bias.detach().numpy()
        result = Map(len(weight), x.shrink * stride)
        step = Convolution(name, x, result, weight, bias, stride, padding, dilation, conv.groups)
        return self._add_step(step)

    def _scale(self, name: str, x: Map, scale: np.ndarray, shift: np.ndarray) -> Map:
        """Scale and shift each channel, by a depthwise 1 x 1 convolution."""
        weight = scale.astype(np.float32).reshape(-1, 1, 1, 1)
        step = Convolution(name, x, Map(x.channels, x.shrink), weight, shift.astype(np.float32))
        step.groups = x.channels
        return self._add_step(step)

    def _same(self, name: str, x: Map) -> Map:
        """Copy each channel, by a convolution that an activation or a residual can be folded into."""
        return self._scale(name, x, np.ones(x.channels), np.zeros(x.channels))

    def _activate(self, node: fx.Node, x: Map, module: nn.Module) -> Map:
        step = self._open_step(node.args[0])
        if step is None or step.activation is not Activation.NONE or step.residual is not None:
            x = self._same(node.target, x)
            step = self.steps[-1]
        step.activation = ACTIVATIONS[type(module)]
        step.slope = getattr(module, "negative_slope", 0.0)
        return x

    def _pool(self, node: fx.Node, x: Map, pool: nn.MaxPool2d) -> Map:
        kernel, reach = pool.kernel_size, pool.padding
        if (pool.stride, pool.dilation, pool.ceil_mode) != (1, 1, False) or 2 * reach + 1 != kernel:
            raise _unknown(f"a max pool that has a stride other than 1 or changes the size ({node.target})")
        return self._add_step(Pooling(x, Map(x.channels, x.shrink), kernel))

    def _upsample(self, node: fx.Node, x: Map, module: nn.Upsample) -> Map:
        if module.mode != "nearest" or module.size is not None or float(module.scale_factor) != 2:
            raise _unknown(f"an upsampling other than nearest by a factor of 2 ({node.target})")
        return self._add_step(Moving(x, Map(x.channels, x.shrink // 2), shift=1))

    def _operation(self, node: fx.Node) -> Value:
        operations: Mapping[object, Callable[[fx.Node], Value]] = {
            torch.cat: self._concatenate,
            operator.add: self._add,
            operator.mul: self._multiply,
            attend: self._attend,
            "view": self._view,
            operator.getitem: self._select,
            "chunk": self._chunk,
            torch.chunk: self._chunk,
        }
        if node.target not in operations:
            raise _unknown(f"the operation {getattr(node.target, '__name__', node.target)}")
        return operations[node.target](node)

    def _concatenate(self, node: fx.Node) -> Map:
        parts = [self.values[part] for part in node.args[0]]
        if _argument(node, 1, "dim", 0) != 1:
            raise _unknown("a concatenation along a dimension other than channels")
        parts = _merged(parts)
        joined = Map(sum(part.channels for part in parts), parts[0].shrink)
        first = 0
        for part in parts:
            # A map that is already part of another map, or is the image itself, is copied.
            placed = part if part.inside is None and part is not self.image else self._copy(part)
            placed.inside = (joined, first)
            first += part.channels
        joined.ready = len(self.steps)
        return joined

    def _copy(self, x: Map) -> Map:
        return self._add_step(Moving(x, Map(x.channels, x.shrink)))

    def _add(self, node: fx.Node) -> Map:
        terms = [self.values.get(term) if isinstance(term, fx.Node) else None for term in node.args]
        if not all(isinstance(term, Map) for term in terms):
            raise _unknown("an addition of anything but two maps")
        for mine, other in ((1, 0), (0, 1)):
            step = self._open_step(node.args[mine])
            if step is not None and step.residual is None and terms[other].ready <= self.steps.index(step):
                step.residual = terms[other]
                return step.result
        result = self._same("sum", terms[0])
        self.steps[-1].residual = terms[1]
        return result

    def _view(self, node: fx.Node) -> Tensor:
        x, shape = self.values.get(node.args[0]), node.args[1:]
        if not isinstance(x, Tensor) or not all(isinstance(side, int) for side in shape):
            raise _unknown("the operation view of a map")
        return x.view(*shape)

    def _multiply(self, node: fx.Node) -> Map:
        """Multiply each channel of a map by a number of its own."""
        terms = [self.values.get(term) if isinstance(term, fx.Node) else None for term in node.args]
        maps, scales = ([term for term in terms if isinstance(term, kind)] for kind in (Map, Tensor))
        if len(maps) != 1 or len(scales) != 1 or scales[0].shape != (1, maps[0].channels, 1, 1):
            raise _unknown("a multiplication of anything but a map and a parameter for each of its channels")
        return self._scale("scale", maps[0], scales[0].numpy(), np.zeros(maps[0].channels))

    def _attend(self, node: fx.Node) -> list[Value]:
        """Return the maps of the weighted sums and of the values, which become consecutive channels."""
        source, heads, keys, values, scale, areas = node.args
        step = self._open_step(source)
        if step is None or step.residual is not None or step.groups > 1:
            raise _unknown("attention that reads anything but the result of a convolution without groups")
        x = step.result
        self.orders[x] = order = _parts_together(heads, keys, values)
        step.weight, step.bias = step.weight[order], step.bias[order]
        result = Map(heads * values, x.shrink)
        scales = np.full(heads * keys, scale, np.float32), np.ones(heads * values, np.float32)
        self._add_step(Attention(x, result, heads, keys, values, areas, *scales))
        return [result, Map(heads * values, x.shrink, x.ready, (x, 2 * heads * keys))]

    def _select(self, node: fx.Node) -> Map:
        source, index = self.values[node.args[0]], node.args[1]
        if isinstance(source, list) and isinstance(index, int):
            return source[index]
        if isinstance(source, Map) and isinstance(index, tuple) and len(index) == 3 and index[0] is Ellipsis:
            phases = [_phase(one) for one in index[1:]]
            if None not in phases:
                result = Map(source.channels, source.shrink * 2)
                return self._add_step(Moving(source, result, step=2, row=phases[0], column=phases[1]))
        raise _unknown("this selection of a part of a map")

    def _chunk(self, node: fx.Node) -> list[Value]:
        x, count = self._source(node), _argument(node, 1, "chunks", None)
        if _argument(node, 2, "dim", 0) != 1 or x.channels % count:
            raise _unknown("a split along a dimension other than channels, or into unequal parts")
        each = x.channels // count
        return [Map(each, x.shrink, x.ready, (x, i * each)) for i in range(count)]

    def _source(self, node: fx.Node) -> Map:
        x = self.values.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        if not isinstance(x, Map):
            raise _unknown(f"the input of {node.target}")
        return x

    def _open_step(self, node: fx.Node) -> Convolution | None:
        """Return the convolution that computes a node's map, if no other node reads this map.

        Only then can an operation on the map be folded into the convolution.
        """
        x = self.values.get(node)
        if not isinstance(x, Map) or any(len(one.users) > 1 for one, of in self.values.items() if of is x):
            return None
        found = [step for step in self.steps if step.result is x]
        return found[0] if found and isinstance(found[0], Convolution) else None

    def _add_step(self, step: Step) -> Map:
        self.steps.append(step)
        step.result.ready = len(self.steps)
        return step.result


def _merged(parts: Sequence[Map]) -> list[Map]:
    """Return the parts. Consecutive parts that together are one whole map are replaced by this map."""
    merged: list[Map] = []
    index = 0
    while index < len(parts):
        outer = parts[index].inside[0] if parts[index].inside else None
        run = _run_of(parts[index:], outer) if outer is not None and outer.inside is None else 0
        merged.append(outer if run else parts[index])
        index += run or 1
    return merged


def _run_of(parts: Sequence[Map], outer: Map) -> int:
    """Return how many of the first parts together are the whole map outer, in order; 0 if they are not."""
    channels = 0
    for count, part in enumerate(parts, 1):
        if part.inside is None or part.inside[0] is not outer or part.inside[1] != channels:
            return 0
        channels += part.channels
        if channels == outer.channels:
            return count
    return 0


def _parts_together(heads: int, keys: int, values: int) -> np.ndarray:
    """Return the channels of queries of all heads, then those of keys, then those of values.

    They are numbered head after head: queries, keys and values of the first head, then those of the next one.
    """
    channels = np.arange(heads * (2 * keys + values)).reshape(heads, -1)
    parts = np.split(channels, [keys, 2 * keys], 1)
    return np.concatenate([part.ravel() for part in parts])


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return scale.numpy(), (norm.bias - norm.running_mean * scale).numpy()


def _phase(one: object) -> int | None:
    """Return the start, 0 or 1, of a slice with step 2 over all rows or columns; None for any other slice."""
    if not isinstance(one, slice) or one.step != 2 or one.stop is not None or one.start not in (None, 0, 1):
        return None
    return one.start or 0


def _argument(node: fx.Node, place: int, name: str, default: object) -> object:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _unknown(what: str) -> InputError:
    return InputError(f"the sparse engine does not support {what}; `engine` torch runs this network")
