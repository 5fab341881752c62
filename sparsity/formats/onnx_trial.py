"""One pass over an ONNX graph without images: what its output is, and whether it costs too much to run.

The shape of each value is inferred node by node. Small numbers that shapes are computed from are computed,
too. A graph whose run need not end, or that reads other files, is refused before that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np

from sparsity.base.optional import optional_module
from sparsity.formats.architecture import UnreadableError

BATCH = 2
"""Images of a trial."""
SIDES, OTHER_SIDES = (2, 3), (4, 5)
"""Height and width of a trial's images, in strides: all unlike, so that none stands for another."""
MOST_WORK = 5_000_000
"""The most multiplications for a pixel of the images. yolov5x has 0.25 million."""
MOST_VALUES = 4096
"""The most values of all nodes together for a pixel of the images. yolov5x has under 500."""
MORE_VALUES = 2**26
"""So many values more are accepted for the whole graph."""
MOST_NODES = 100_000
"""The most nodes of a graph, with those of the functions that it calls."""
SMALL = 4096
"""Values of up to so many numbers are computed, where shapes could depend on them."""
MOST_GRAPHS = 1000
"""The most graphs within nodes: branches, also of branches."""
STANDARD = ("", "ai.onnx")
ENDLESS = frozenset({"Loop", "Scan"})
COMPUTED = frozenset(
    (
        *("Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand"),
        *(
            "Flatten",
            "Floor",
            "Gather",
            "Greater",
            "Identity",
            "Less",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "Neg",
            "Not",
        ),
        *(
            "Or",
            "Range",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "Reshape",
            "Shape",
            "Size",
            "Slice",
        ),
        *("Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Operations that are computed if all their inputs are known and small."""
REFERENCE = "onnx.reference"
NUMBERS = ("int32", "int64", "float32", "float64", "bool")


def refuse_unsafe(model: Any, onnx: Any) -> None:
    """Raise UnreadableError for a graph that reads other files, or whose run may not end."""
    nodes = list(_all_nodes(model))
    if not all(isinstance(text, str) for text in _texts(model, nodes)):
        raise UnreadableError("damaged: one of its names is not a text")
    tensors = [*_tensors_of(model.graph), *(one for node in nodes for one in _tensors_in(node))]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise UnreadableError("its weights lie in another file; export it as one file")
    found = sorted({node.op_type for node in nodes if node.op_type in ENDLESS})
    if found:
        raise UnreadableError(
            f"its graph has {found[0]}, which may not end; no detector without NMS needs it"
        )
    if sum(1 for node in nodes for _ in _graphs_in(node)) > MOST_GRAPHS:
        raise UnreadableError(f"its nodes have over {MOST_GRAPHS} graphs of their own")
    _refuse_many_calls(model)


def _texts(model: Any, nodes: Sequence[Any]) -> Iterator[object]:
    """Yield the texts that are read here. protobuf gives one as bytes if it is not valid UTF-8."""
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for one in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.functions, *nodes):
        yield one.name
    for node in nodes:
        yield from (node.op_type, node.domain, *node.input, *node.output)
    for value in (*model.graph.input, *model.graph.output):
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def _all_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of the graph, of the graphs in its nodes, and of its functions."""
    yield from _with_inner(model.graph.node)
    for function in model.functions:
        yield from _with_inner(function.node)


def _with_inner(nodes: Sequence[Any]) -> Iterator[Any]:
    """Yield nodes, and those of the graphs in them."""
    left = list(nodes)
    while left:
        node = left.pop()
        yield node
        left += [one for graph in _graphs_in(node) for one in graph.node]


def _graphs_in(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors_in(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
    for graph in _graphs_in(node):
        yield from _tensors_of(graph)


def _tensors_of(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _refuse_many_calls(model: Any) -> None:
    """Raise UnreadableError if functions call themselves, or each other so often that nothing can run."""
    bodies = {(one.domain, one.name): list(_with_inner(one.node)) for one in model.functions}
    calls = {name: {_callee(node) for node in nodes} & bodies.keys() for name, nodes in bodies.items()}
    sizes: dict[tuple[str, str], int] = {}
    try:
        for name in TopologicalSorter(calls).static_order():
            sizes[name] = sum(1 + sizes.get(_callee(node), 0) for node in bodies[name])
    except CycleError:
        raise UnreadableError("its functions call each other without end") from None
    nodes = sum(1 + sizes.get(_callee(node), 0) for node in _with_inner(model.graph.node))
    if nodes > MOST_NODES:
        raise UnreadableError(f"its graph has over {MOST_NODES} nodes, with those of the functions it calls")


def _callee(node: Any) -> tuple[str, str]:
    return node.domain, node.op_type


class Output(NamedTuple):
    """An output of a graph. kind: of its numbers, as in TensorProto. shape: 0 where it is not known."""

    kind: int
    shape: tuple[int, ...]


class Trial:
    """The shapes of a graph's values, for BATCH images of this height and width, in strides.

    complete: whether every node is one of ONNX's own operations, without graphs of its own. If so, a shape
    that stays unknown is one that depends on what the image shows, or that no runtime could compute.
    problem: why the first node could not be computed, "" if all could.
    """

    def __init__(self, model: Any, stride: int, onnx: Any, sides: tuple[int, int] = SIDES) -> None:
        """Infer all shapes. Raises UnreadableError if one image would take far too much memory or time."""
        self._onnx, self._model = onnx, model
        self._opset = next((one.version for one in model.opset_import if one.domain in STANDARD), 1)
        self._ir_version = min(model.ir_version, onnx.IR_VERSION)
        self._types: dict[str, Any] = {}
        self._known: dict[str, np.ndarray] = {}
        self._pixels = BATCH * math.prod(sides) * stride**2
        self._values = self._work = 0
        self.complete, self.problem = True, ""
        for tensor in model.graph.initializer:
            self._add_tensor(tensor)
        for one in model.graph.input:
            if one.name not in self._types:
                shape = (BATCH, 3, *(side * stride for side in sides))
                self._types[one.name] = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)
        for node in model.graph.node:
            self._pass(node)

    def output(self) -> Output | None:
        """Return the first output, None if not even the number of its dimensions is known."""
        outputs = self._model.graph.output
        kind = self._types.get(outputs[0].name) if outputs else None
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        shape = tuple(max(dim.dim_value, 0) for dim in kind.tensor_type.shape.dim)
        return Output(kind.tensor_type.elem_type, shape)

    def _add_tensor(self, tensor: Any) -> None:
        """Take in a weight: its shape, and its numbers if they are few."""
        make = self._onnx.helper.make_tensor_type_proto
        try:
            self._types[tensor.name] = make(tensor.data_type, tuple(tensor.dims))
            if _count(tensor.dims) <= SMALL:
                self._learn(tensor.name, self._onnx.numpy_helper.to_array(tensor))
        except Exception as error:
            # For damaged numbers, onnx and numpy raise many exceptions.
            self._note(error)

    def _pass(self, node: Any) -> None:
        """Infer what a node gives, and count what it costs."""
        if node.domain not in STANDARD or any(_graphs_in(node)):
            self.complete = False
            return
        inputs = [name for name in node.input if name]
        if not all(name in self._types for name in inputs):
            return
        try:
            given = self._inferred(node, inputs)
        except Exception as error:
            # The inference in C++ raises exceptions without a common public base.
            self._note(error)
            return
        self._types.update(given)
        self._count(node, given)
        self._compute(node, inputs, given)

    def _inferred(self, node: Any, inputs: Sequence[str]) -> dict[str, Any]:
        onnx = self._onnx
        schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        data = {
            name: onnx.numpy_helper.from_array(self._known[name], name)
            for name in inputs
            if name in self._known
        }
        return onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {name: self._types[name] for name in inputs},
            data,
            opset_imports=[onnx.helper.make_opsetid("", self._opset)],
            ir_version=self._ir_version,
        )

    def _count(self, node: Any, given: dict[str, Any]) -> None:
        values = sum(_count(shape) for shape in map(_shape, given.values()) if shape is not None)
        self._values += values
        self._work += values * self._operations(node)
        if self._values > MOST_VALUES * self._pixels + MORE_VALUES or self._work > MOST_WORK * self._pixels:
            name = node.name or next(iter(node.output), "")
            raise UnreadableError(
                f"up to its {node.op_type} {name[:100]}, it needs over {MOST_WORK} multiplications, or over "
                f"{MOST_VALUES} values, for each pixel"
            )

    def _operations(self, node: Any) -> int:
        """Return the multiplications, or comparisons, for one value of a node's outputs."""
        sizes = [_shape(self._types[name]) for name in node.input if name]
        if node.op_type in ("Conv", "ConvTranspose") and len(sizes) > 1 and sizes[1]:
            return max(1, _count(sizes[1]) // max(sizes[1][0], 1))
        if node.op_type in ("MatMul", "Gemm", "Einsum") and sizes and sizes[0]:
            return max(1, *sizes[0][-2:])
        if node.op_type.endswith("Pool"):
            kernel = next((one.ints for one in node.attribute if one.name == "kernel_shape"), ())
            return max(1, _count(kernel))
        return 1

    def _compute(self, node: Any, inputs: Sequence[str], given: dict[str, Any]) -> None:
        """Compute a node whose inputs are known. The shape of a value is known before the value is."""
        shapes = [_shape(kind) for kind in given.values()]
        if node.op_type not in COMPUTED or any(shape is None or _count(shape) > SMALL for shape in shapes):
            return
        if node.op_type in ("Shape", "Size"):
            shape = _shape(self._types[inputs[0]]) if inputs else None
            feeds = None if shape is None else {inputs[0]: np.broadcast_to(np.zeros((), bool), shape)}
        else:
            feeds = (
                {name: self._known[name] for name in inputs} if self._known.keys() >= set(inputs) else None
            )
        if feeds is None:
            return
        try:
            for name, value in self._evaluated(node, feeds).items():
                self._learn(name, np.asarray(value))
        except Exception as error:
            # The reference of onnx raises any exception for attributes that do not fit.
            self._note(error)

    def _evaluated(self, node: Any, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return what a node gives, by name, by the reference of onnx.

        The reference evaluates a node alone as of the newest opset, whatever opset it is given. So the node
        becomes a model.
        """
        helper, names = self._onnx.helper, [name for name in node.output if name]
        inputs, outputs = (
            [helper.make_value_info(name, self._types[name]) for name in some] for some in (feeds, names)
        )
        opset = helper.make_opsetid("", self._opset)
        graph = helper.make_graph([node], "node", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=self._ir_version)
        found = optional_module(REFERENCE, "an .onnx file").ReferenceEvaluator(model).run(None, feeds)
        return dict(zip(names, found, strict=True))

    def _learn(self, name: str, value: np.ndarray) -> None:
        if value.dtype.name in NUMBERS and value.size <= SMALL:
            self._known[name] = value

    def _note(self, error: Exception) -> None:
        if not self.problem:
            self.problem = " ".join(str(error).split())[:200] or type(error).__name__


def _shape(kind: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor, None if a dimension is not known."""
    if not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
    return tuple(dim.dim_value for dim in dims) if known else None


def _count(sizes: Sequence[int]) -> int:
    return math.prod(sizes)
