"""The channel graph: which channels of a network's layers are tied, so that they can only be cut together."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn

from sparsity.base.arguments import require_network
from sparsity.channels.constants import is_depthwise
from sparsity.yolo.attention import attend
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network

CHANNELWISE = (nn.BatchNorm2d, nn.SiLU, nn.Hardswish, nn.ReLU, nn.LeakyReLU)
"""Modules that compute each output channel from the same input channel, cell by cell."""
PASSING = (nn.Identity, nn.MaxPool2d, nn.Upsample)
"""Modules that do not change a constant channel."""
Map: TypeAlias = "Tensor | tuple[Map, ...] | None"
"""The values of the channels of a map, int64 [channels]; a tuple for several maps; None for other results."""


@dataclass(frozen=True, eq=False)
class Ends:
    """The identities of the channels of a layer.

    inputs: int64 [in_channels]. outputs: int64 [out_channels].
    """

    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """An operation that computes values from values: a module or parameter, by its name, or a sum (no name).

    A parameter has a factor for each channel. A sum of one map is a weighted mean of its cells.
    inputs: int64 [channels] for each input map. outputs: int64 [channels].
    """

    module: str
    inputs: tuple[Tensor, ...]
    outputs: Tensor


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a network. Channels with the same identity are kept or cut together.

    layers: the ends of each Conv2d and BatchNorm2d by its name, except those that run never or twice.
    pinned: bool [identities], which can't be cut: the image, the raw maps, and all channels that an unknown
    operation reads or gives.
    steps: the operations that compute values, in execution order. A value is a channel of a map;
    concatenation, pooling and upsampling do not change it.
    identity: int64 [values], the identity of each value.
    factors: the identities of each parameter that multiplies channels by factors, int64 [channels], by its
    name.
    heads: bool [identities], which are all channels of a head of attention: its queries, keys and values.
    """

    layers: Mapping[str, Ends]
    pinned: Tensor
    steps: tuple[Step, ...]
    identity: Tensor
    factors: Mapping[str, Tensor]
    heads: Tensor


def operation(network: nn.Module, step: Step) -> nn.Module | Tensor | None:
    """Return the module or the parameter of a step, None for a sum."""
    block, _, own = step.module.rpartition(".")
    return getattr(network.get_submodule(block), own) if step.module else None


def trace_channels(network: Network) -> Channels:
    """Follow the channels of a network through its operations. Any blocks are supported.

    A block that splits a map must take the sizes from its modules (as with torch.split and a list), so that
    they are right after channels are cut. The parts of a chunk are tied: they lose the same channels. The
    channels of a head of attention are tied. All branches of the network's head are followed.
    Raises InputError for anything but a Network.
    """
    require_network(network, Network)
    with torch.device("meta"):
        # Only the shapes are needed.
        double = Network(current_architecture(network), network.names).eval()
        images = torch.empty(1, 3, *[2 * network.largest_stride] * 2)
    if double.head.kinds:
        # A branch that does not run reads the same maps.
        double.head.forward = double.head.every
    walk = _Walk(double)
    walk.run(images)
    identity = _components(walk.count, walk.ties)
    count = int(identity.max()) + 1
    steps = [(step, operation(double, step)) for step in walk.steps]
    return Channels(
        layers={
            step.module: Ends(identity[step.inputs[0]], identity[step.outputs])
            for step, found in steps
            if isinstance(found, nn.Conv2d | nn.BatchNorm2d)
        },
        pinned=_marked(count, identity, walk.pins),
        steps=tuple(walk.steps),
        identity=identity,
        factors={step.module: identity[step.outputs] for step, found in steps if isinstance(found, Tensor)},
        heads=_marked(count, identity, walk.heads),
    )


class _Walk(fx.Interpreter):
    """Runs a network on shapes, and records which values each result holds."""

    def __init__(self, network: Network) -> None:
        super().__init__(fx.GraphModule(network, fx.Tracer(autowrap_functions=(attend,)).trace(network)))
        self.count = 0
        self.steps: list[Step] = []
        self.ties: list[tuple[Tensor, Tensor]] = []
        self.pins: list[Tensor] = []
        self.heads: list[Tensor] = []
        self._maps: dict[fx.Node, Map] = {}
        self._calls = Counter(node.target for node in self.module.graph.nodes if node.op == "call_module")

    def run_node(self, node: fx.Node) -> object:
        result = super().run_node(node)
        found: Map = None
        if node.op == "call_module":
            found = self._follow_module(node)
        elif node.op in ("call_function", "call_method"):
            found = self._follow_operation(node)
        self._maps[node] = self._pin(node, result) if found is None else found
        return result

    def _follow_module(self, node: fx.Node) -> Map:
        """Return the values that a known module gives; None for an unknown module."""
        x, module = self._source(node), self.module.get_submodule(node.target)
        if x is None:
            return None
        if isinstance(module, PASSING):
            return x
        weighted = isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        if weighted and self._calls[node.target] > 1:
            return None
        if isinstance(module, nn.Conv2d):
            return self._convolve(node.target, module, x)
        return self._make(node.target, x, tied=True) if isinstance(module, CHANNELWISE) else None

    def _convolve(self, name: str, conv: nn.Conv2d, x: Tensor) -> Tensor:
        depthwise = is_depthwise(conv)
        outputs = self._make(name, x, tied=depthwise, count=conv.out_channels)
        if conv.groups > 1 and not depthwise:
            self.pins += [x, outputs]
        return outputs

    def _make(self, name: str, *inputs: Tensor, tied: bool, count: int | None = None) -> Tensor:
        outputs = self._fresh(len(inputs[0]) if count is None else count)
        self.steps.append(Step(name, inputs, outputs))
        if tied:
            self.ties += [(x, outputs) for x in inputs]
        return outputs

    def _fresh(self, count: int) -> Tensor:
        self.count += count
        return torch.arange(self.count - count, self.count)

    def _follow_operation(self, node: fx.Node) -> Map:
        """Return the values that a known operation gives; None for an unknown operation."""
        if node.target is torch.cat:
            return self._join(node)
        if node.target is operator.add:
            return self._add(node)
        if node.target is operator.getitem:
            return self._select(node)
        if node.target in ("chunk", torch.chunk):
            return self._chunk(node)
        if node.target is operator.mul:
            return self._multiply(node)
        if node.target is attend:
            return self._attend(node)
        if _shown_parameter(node):
            return ()
        return self._split(node) if node.target in ("split", torch.split) else None

    def _join(self, node: fx.Node) -> Map:
        maps = [self._maps.get(source) for source in node.args[0]]
        if not _is_channels(_dim(node, 1)) or not all(isinstance(x, Tensor) for x in maps):
            return None
        return torch.cat(maps)

    def _add(self, node: fx.Node) -> Map:
        terms = [self._maps.get(term) if isinstance(term, fx.Node) else None for term in node.args]
        if not all(isinstance(x, Tensor) for x in terms) or len({len(x) for x in terms}) > 1:
            return None
        return self._make("", *terms, tied=True)

    def _multiply(self, node: fx.Node) -> Map:
        """Return the values of a map whose channels a parameter multiplies."""
        for factors, source in (node.args, node.args[::-1]):
            x = self._maps.get(source) if isinstance(source, fx.Node) else None
            name = _shown_parameter(factors)
            if name and isinstance(x, Tensor) and len(x) == len(self.module.get_parameter(name)):
                return self._make(name, x, tied=True)
        return None

    def _attend(self, node: fx.Node) -> Map:
        """Return the values of the sums, and of what is summed. The channels of a head are tied."""
        x, heads, keys = self._maps.get(node.args[0]), *node.args[1:3]
        if not isinstance(x, Tensor):
            return None
        self.heads.append(x)
        by_head = x.view(heads, -1)
        self.ties.append((by_head[:, :-1].flatten(), by_head[:, 1:].flatten()))
        summed = by_head[:, 2 * keys :].flatten()
        return self._make("", summed, tied=True), summed

    def _select(self, node: fx.Node) -> Map:
        """Return the values of one of several maps, or of a map after a selection of rows and columns."""
        source, index = self._maps.get(node.args[0]), node.args[1]
        if isinstance(source, tuple) and isinstance(index, int):
            return source[index]
        spatial = isinstance(index, tuple) and len(index) <= 3 and index[0] is Ellipsis
        spatial = spatial and all(isinstance(one, slice) for one in index[1:])
        return source if isinstance(source, Tensor) and spatial else None

    def _chunk(self, node: fx.Node) -> Map:
        x, count = self._source(node), _argument(node, 1, "chunks")
        if x is None or not _is_channels(_dim(node, 2)) or len(x) % count:
            return None
        parts = x.chunk(count)
        self.ties += [(parts[0], part) for part in parts[1:]]
        return parts

    def _split(self, node: fx.Node) -> Map:
        x, name = self._source(node), "split_size" if node.op == "call_method" else "split_size_or_sections"
        sizes = _argument(node, 1, name)
        if x is None or not _is_channels(_dim(node, 2)) or not isinstance(sizes, Sequence):
            return None
        return x.split(list(sizes))

    def _source(self, node: fx.Node) -> Tensor | None:
        """Return the values of the map that a node reads; None unless it reads exactly one."""
        x = self._maps.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        return x if isinstance(x, Tensor) and len(node.all_input_nodes) == 1 else None

    def _pin(self, node: fx.Node, result: object) -> Map:
        """Pin the values that a node reads and gives. Return those that it gives."""
        self.pins += [x for source in node.all_input_nodes for x in _leaves(self._maps.get(source))]
        found = None if node.op == "output" else self._fresh_maps(result)
        self.pins += _leaves(found)
        return found

    def _fresh_maps(self, result: object) -> Map:
        if isinstance(result, Tensor):
            return self._fresh(result.shape[1]) if result.ndim == 4 else None
        return tuple(map(self._fresh_maps, result)) if isinstance(result, tuple | list) else None


def _marked(count: int, identity: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Return which identities these values have: bool [count]."""
    marked = torch.zeros(count, dtype=torch.bool)
    for one in values:
        marked[identity[one]] = True
    return marked


def _shown_parameter(node: object) -> str:
    """Return the name of the parameter that node shows as [1, channels, 1, 1], "" if it does not.

    Nothing else may use the parameter.
    """
    if not isinstance(node, fx.Node) or node.op != "call_method" or node.target not in ("view", "reshape"):
        return ""
    parameter, shape = node.args[0], node.args[1:]
    alone = len(parameter.users) == len(node.users) == 1
    return parameter.target if alone and parameter.op == "get_attr" and shape == (1, -1, 1, 1) else ""


def _leaves(found: Map) -> list[Tensor]:
    if isinstance(found, tuple):
        return [leaf for one in found for leaf in _leaves(one)]
    return [] if found is None else [found]


def _argument(node: fx.Node, place: int, name: str, default: object = None) -> object:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _dim(node: fx.Node, place: int) -> object:
    return _argument(node, place, "dim", 0)


def _is_channels(dim: object) -> bool:
    return dim in (1, -3)


def _components(count: int, ties: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the identity of each value: int64 [count], from 0 on, equal for values that ties connect."""
    labels = torch.arange(count)
    if ties:
        one, other = (torch.cat(ends) for ends in zip(*ties, strict=True))
        while not torch.equal(labels[one], labels[other]):
            least = torch.minimum(labels[one], labels[other])
            for end in (one, other):
                labels.scatter_reduce_(0, labels[end], least, "amin")
                labels = labels[labels]
    return labels.unique(return_inverse=True)[1]
