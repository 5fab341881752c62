"""Small ONNX files, and what can be wrong in them: bytes, fields, metadata, graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from sparsity.formats import onnx_file, onnx_int8
from sparsity.formats.saving import save
from sparsity.pruning.magnitude import prune
from sparsity.yolo.network import fuse
from tests.mutations import NASTY_NUMBERS, Random, anywhere, splice
from tests.small_networks import small_networks

INTS = tuple(
    n for n in (*NASTY_NUMBERS, -2, 4, 5, 64, 1000, 10**5, -(2**31), -(2**63)) if -(2**63) <= n < 2**63
)
FLOATS = (0.0, -1.0, 0.5, 1.5, 2.0, 64.0, 1e5, 1e30, -1e30, float("nan"), float("inf"), float("-inf"))
DEEP = 100_000
TEXTS = (
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "1.5",
        "inf",
        "nan",
        "1e999",
        "-1e999",
        "Infinity",
        "NaN",
        "32\n",
        "\x1b[2J",
        "\u202e",
    ),
    *("[" * DEEP, "{" * DEEP, "[" * DEEP + "]" * DEEP, "-" * DEEP + "1", "not " * DEEP, "1+" * DEEP + "1"),
    *("x" + ".x" * DEEP, "(" * 5000 + ")" * 5000, "1" * DEEP, "'a'" * DEEP, "{0:" * 150 + "1" + "}" * 150),
    *(
        "{0: 'cat', 1: 'dog'}",
        "{0: 'cat'}",
        "['cat', 'dog']",
        "{1: 'cat', 0: 'dog'}",
        "{True: 'a', False: 'b'}",
    ),
    *("{0.0: 'a', 1.0: 'b'}", "{0: 'cat', 1: None}", "{0: 'cat', 1: b'dog'}", "{'0': 'cat', '1': 'dog'}"),
    *(
        "{0: 'a\\n\\x1b[2J', 1: '\\ud800'}",
        "{0: 'cat', **{1: 'dog'}}",
        "{[]: 1}",
        "{(): 1}",
        "{{}: 1}",
        "{0: x}",
    ),
    *(
        "__import__('os').abort()",
        "('cat', 'dog')",
        "{'cat', 'dog'}",
        "{0: 'c' 'at', 1: f'dog'}",
        "\0",
        "9" * 5000,
    ),
    *(
        "{'nms': True}",
        "{'nms': " + "[" * DEEP,
        "True",
        "{0: '" + "x" * 10**6 + "', 1: 'dog'}",
        "1e3",
        "[8, 16]",
    ),
    *("0x20", "32.0", "32.7", "1024", "1025", "true", "null", '"32"', "{}", "[]", "1j", "1_0", "8 8"),
)
OPERATIONS = (
    *(
        "Conv",
        "Sigmoid",
        "Mul",
        "Add",
        "Concat",
        "Resize",
        "Reshape",
        "Transpose",
        "Slice",
        "Gather",
        "Shape",
    ),
    *(
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "Pad",
        "MaxPool",
        "Split",
        "Cast",
        "Softmax",
        "Loop",
        "If",
    ),
    *(
        "Scan",
        "NonZero",
        "Where",
        "Constant",
        "Unsqueeze",
        "Squeeze",
        "MatMul",
        "Gemm",
        "ConvTranspose",
        "OneHot",
    ),
    *(
        "RandomNormal",
        "SequenceEmpty",
        "SequenceAt",
        "Optional",
        "StringNormalizer",
        "TfIdfVectorizer",
        "Nothing",
    ),
    *(
        "NonMaxSuppression",
        "EyeLike",
        "DequantizeLinear",
        "QuantizeLinear",
        "Identity",
        "GRU",
        "LSTM",
        "Einsum",
    ),
)
Edit = Callable[[ModelProto, Random], object]


def make_onnx(folder: Path) -> list[bytes]:
    """Files of each family, dense and pruned; one as other exporters write them; one in int8 (with nncf)."""
    networks = [fuse(copy.deepcopy(network)) for network in small_networks()]
    prune(networks[0], 0.5)
    for index, network in enumerate(networks):
        save(network, folder / f"{index}.onnx")
    files = [(folder / f"{index}.onnx").read_bytes() for index in range(len(networks))]
    image = onnx_file.torch.rand(1, 3, 32, 32)
    int8 = [onnx_int8.quantize(networks[0], [image]).SerializeToString()] if find_spec("nncf") else []
    return [*files, _as_of_others(files[0]), *int8]


def _as_of_others(content: bytes) -> bytes:
    """An output without names of dimensions, as exporters write whose shapes are inferred."""
    model = onnx.load_from_string(content)
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    return model.SerializeToString()


def mutate_onnx(originals: list[bytes], rng: Random) -> bytes:
    """One damaged file."""
    original, how = rng.choice(originals), rng.random()
    if how < 0.1:
        return anywhere(original, rng) if how < 0.08 else splice(originals, rng)
    model = onnx.load_from_string(original)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        try:
            rng.choice(EDITS)(model, rng)
        except (ValueError, TypeError, IndexError):
            continue  # The field takes no such value, or the graph has no such part.
    return model.SerializeToString()


# --- metadata and declarations ---------------------------------------------------------------------


def edit_metadata(model: ModelProto, rng: Random) -> None:
    entry = rng.choice(model.metadata_props)
    if rng.random() < 0.2:
        entry = model.metadata_props.add(key=rng.choice(("names", "stride", "args", "end2end", "task", "x")))
    entry.value = rng.choice(TEXTS)
    if rng.random() < 0.05:
        entry.key = rng.choice(TEXTS)
    if rng.random() < 0.05:
        model.metadata_props.remove(entry)


def edit_header(model: ModelProto, rng: Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        model.ir_version = rng.choice(INTS)
    elif how == 1:
        model.opset_import[0].version = rng.choice((*INTS, 6, 9, 11, 12, 13, 17, 21, 30))
    elif how == 2:
        model.opset_import.add(
            domain=rng.choice(("", "x", "ai.onnx.ml", "com.microsoft")), version=rng.choice(INTS)
        )
    else:
        del model.opset_import[:]


def edit_declared(model: ModelProto, rng: Random) -> None:
    """An input, an output or the shape of a value."""
    graph = model.graph
    values = rng.choice([part for part in (graph.input, graph.output, graph.value_info) if part])
    one = rng.choice(values)
    how = rng.randrange(9)
    if how == 0:
        values.remove(one)
    elif how == 1:
        values.add().CopyFrom(one)
    elif how == 2:
        one.name = rng.choice(_names(model))
    elif how == 3:
        one.type.tensor_type.elem_type = rng.choice((*range(17), 2**31 - 1, -1))
    elif how == 4:
        one.type.CopyFrom(_other_type(one.type, rng))
    elif how == 5:
        one.type.tensor_type.ClearField("shape")
    else:
        _edit_dims(one.type.tensor_type.shape, rng)


def _edit_dims(shape: Any, rng: Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        shape.dim.add(dim_value=rng.choice(INTS))
    elif how == 1:
        shape.dim.pop()
    elif how == 2:
        rng.choice(shape.dim).dim_value = rng.choice((*INTS, 6, 7, 85))
    else:
        rng.choice(shape.dim).dim_param = rng.choice(("cells", "batch", "x", "", "7", "\x1b[2J"))


def _other_type(kind: Any, rng: Random) -> Any:
    return rng.choice((helper.make_sequence_type_proto, helper.make_optional_type_proto))(copy.deepcopy(kind))


def swap_outputs(model: ModelProto, rng: Random) -> None:
    """Another value of the graph becomes its output, under its own name or the output's."""
    old, new = model.graph.output[0].name, rng.choice(_names(model))
    if rng.random() < 0.3:
        model.graph.output[0].name = new
    else:
        for node in model.graph.node:
            node.output[:] = [f"{old}_before" if name == old else name for name in node.output]
        model.graph.node.append(helper.make_node("Identity", [new], [old]))


def wrap_output(model: ModelProto, rng: Random) -> None:
    """One more operation before the output: the declared shape stays, the computed one is another."""
    old, graph = model.graph.output[0].name, model.graph
    for node in graph.node:
        node.output[:] = [f"{old}_before" if name == old else name for name in node.output]
    kind, more, attributes = rng.choice(
        (
            ("Transpose", [], {"perm": rng.choice(([0, 2, 1], [2, 1, 0], [1, 0, 2]))}),
            ("ReduceSum", [], {"keepdims": rng.randrange(2)}),
            ("Concat", [f"{old}_before"], {"axis": rng.randrange(-3, 3)}),
            ("Cast", [], {"to": rng.choice((1, 6, 7, 8, 9, 10, 11))}),
            ("Flatten", [], {"axis": rng.randrange(3)}),
            ("Log", [], {}),
            ("Shape", [], {}),
            ("NonZero", [], {}),
            ("SequenceConstruct", [], {}),
            ("Tile", [_constant(model, [rng.choice((1, 2, 0, 1000)) for _ in range(3)])], {}),
        )
    )
    graph.node.append(helper.make_node(kind, [f"{old}_before", *more], [old], **attributes))


# --- nodes -----------------------------------------------------------------------------------------


def edit_nodes(model: ModelProto, rng: Random) -> None:
    nodes = model.graph.node
    node, other, how = rng.choice(nodes), rng.choice(nodes), rng.randrange(8)
    if how == 0:
        nodes.remove(node)
    elif how == 1:
        nodes.add().CopyFrom(node)
    elif how == 2:
        kept = copy.deepcopy(node)
        node.CopyFrom(other)
        other.CopyFrom(kept)
    elif how == 3:
        node.op_type = rng.choice(OPERATIONS)
    elif how == 4:
        node.domain = rng.choice(("com.microsoft", "x", "ai.onnx.ml", "ai.onnx.training", "\x1b[2J"))
    else:
        _rewire(node.output if how == 5 else node.input, _names(model), rng)


def _rewire(names: Any, known: list[str], rng: Random) -> None:
    how = rng.randrange(4)
    if how == 0 and names:
        names.pop(rng.randrange(len(names)))
    elif how == 1:
        names.append(rng.choice(known))
    elif names:
        names[rng.randrange(len(names))] = rng.choice((*known, *known, "", "nowhere"))


def edit_attribute(model: ModelProto, rng: Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = rng.choice(nodes)
    attribute, how = rng.choice(node.attribute), rng.randrange(6)
    if how == 0:
        node.attribute.remove(attribute)
    elif how == 1:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif how == 2:
        node.attribute.add().CopyFrom(
            helper.make_attribute(attribute.name, rng.choice(("x", [1, 2], 1.5, [0.5])))
        )
    elif attribute.type == AttributeProto.TENSOR:
        _edit_tensor(attribute.t, rng)
    elif attribute.type == AttributeProto.INTS:
        _edit_list(attribute.ints, INTS, rng)
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(INTS)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    else:
        attribute.s = rng.choice(("linear", "cubic", "nearest", "SAME_UPPER", "VALID", "x", "")).encode()


def _edit_list(numbers: Any, choices: tuple, rng: Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        numbers.pop()
    elif how == 1:
        numbers.append(rng.choice(choices))
    elif how == 2:
        numbers.extend([rng.choice(choices)] * rng.choice((1, 100)))
    else:
        numbers[rng.randrange(len(numbers))] = rng.choice(choices)


# --- weights and constants -------------------------------------------------------------------------


def edit_weight(model: ModelProto, rng: Random) -> None:
    tensors, how = model.graph.initializer, rng.random()
    one = rng.choice(tensors)
    if how < 0.05:
        tensors.remove(one)
    elif how < 0.1:
        tensors.add().CopyFrom(one)
    elif how < 0.15:
        one.name = rng.choice(_names(model))
    elif how < 0.2:
        model.graph.sparse_initializer.add().values.CopyFrom(one)
    else:
        _edit_tensor(one, rng)


def edit_constant(model: ModelProto, rng: Random) -> None:
    """The numbers of a Constant: shapes, places, sizes."""
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    tensor = rng.choice(constants).attribute[0].t
    values = numpy_helper.to_array(tensor).copy().reshape(-1)
    values[rng.randrange(len(values))] = rng.choice(INTS if values.dtype.kind == "i" else FLOATS)
    tensor.CopyFrom(numpy_helper.from_array(values.reshape(tuple(tensor.dims)), tensor.name))


def _edit_tensor(tensor: TensorProto, rng: Random) -> None:
    rng.choice((_edit_shape, _edit_content, _move_outside, _replace))(tensor, rng)


def _edit_shape(tensor: TensorProto, rng: Random) -> None:
    if rng.random() < 0.5:
        _edit_list(tensor.dims, INTS, rng)
    else:
        tensor.data_type = rng.choice((*TensorProto.DataType.values(), 99, -1))


def _edit_content(tensor: TensorProto, rng: Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        tensor.raw_data = anywhere(tensor.raw_data, rng)
    elif how == 1:
        tensor.float_data.extend([rng.choice(FLOATS)] * rng.choice((1, 100)))
    elif how == 2:
        tensor.ClearField("raw_data")
    else:
        tensor.string_data.append(b"x")
        tensor.data_type = TensorProto.STRING


def _move_outside(tensor: TensorProto, rng: Random) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value=rng.choice(("/etc/passwd", "../x", "", "a.bin")))


def _replace(tensor: TensorProto, rng: Random) -> None:
    other = tuple(rng.choice((0, 1, 2, 3, 8, 16)) for _ in range(rng.randrange(6)))
    shape = rng.choice((other, tuple(tensor.dims)))
    tensor.CopyFrom(numpy_helper.from_array(np.full(shape, rng.choice(FLOATS), np.float32), tensor.name))


# --- whole constructions ---------------------------------------------------------------------------


def add_bomb(model: ModelProto, rng: Random) -> None:
    """A value from little that is huge, or takes for ever, and is used by the output."""
    rng.choice((_huge, _huge, _padded, _resized, _endless, _laughs, _nested))(model, rng)


def _feed(model: ModelProto, name: str, rng: Random) -> None:
    """Let some node take the value called name, so that nothing can leave it out."""
    old = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{old}_before" if one == old else one for one in node.output]
    nodes = [
        helper.make_node("ReduceSum", [name], ["bomb_sum"], keepdims=0),
        helper.make_node("Add", [f"{old}_before", "bomb_sum"], [old]),
    ]
    model.graph.node.extend(nodes[rng.choice((0, 0, 1)) :])


def _huge(model: ModelProto, rng: Random) -> None:
    shape = [rng.choice((1, 2**10, 2**14, 2**20, 2**31, 2**40)) for _ in range(rng.choice((1, 2, 4)))]
    nodes = [
        helper.make_node("ConstantOfShape", [_constant(model, shape)], ["bomb"]),
        helper.make_node("Expand", [_constant(model, [1.0]), _constant(model, shape)], ["bomb"]),
        helper.make_node("Range", [_constant(model, n) for n in (0, rng.choice(INTS), 1)], ["bomb"]),
        helper.make_node("Tile", ["images", _constant(model, [1, 1, *shape, *shape][:4])], ["bomb"]),
        helper.make_node(
            "OneHot", [_constant(model, [1]), _constant(model, shape[0]), _constant(model, [0, 1])], ["bomb"]
        ),
        helper.make_node("RandomNormal", [], ["bomb"], shape=shape),
    ]
    model.graph.node.insert(0, rng.choice(nodes))
    _feed(model, "bomb", rng)


def _padded(model: ModelProto, rng: Random) -> None:
    pads = [rng.choice((0, 100, 10**4, 2**20, -5)) for _ in range(4)]
    node = helper.make_node("Pad", ["images", _constant(model, [0, 0, *pads[:2], 0, 0, *pads[2:]])], ["bomb"])
    model.graph.node.insert(0, node)
    _feed(model, "bomb", rng)


def _resized(model: ModelProto, rng: Random) -> None:
    scales = _constant(model, [1.0, 1.0, rng.choice(FLOATS), rng.choice(FLOATS)])
    model.graph.node.insert(0, helper.make_node("Resize", ["images", "", scales], ["bomb"], mode="nearest"))
    _feed(model, "bomb", rng)


def _endless(model: ModelProto, rng: Random) -> None:
    """A loop of 2^62 rounds, maybe inside a branch."""
    boolean, long = TensorProto.BOOL, TensorProto.INT64
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [helper.make_tensor_value_info(n, t, []) for n, t in (("i", long), ("on", boolean), ("v", long))],
        [helper.make_tensor_value_info(n, t, []) for n, t in (("on2", boolean), ("v2", long))],
    )
    inputs = [_constant(model, 2**62), _constant(model, True), _constant(model, 1)]
    node = helper.make_node("Loop", inputs, ["bomb"], body=body)
    if rng.random() < 0.3:
        given = [helper.make_tensor_value_info("bomb", long, [])]
        branch = helper.make_graph([node], "branch", [], given)
        node = helper.make_node(
            "If", [_constant(model, True)], ["bomb"], then_branch=branch, else_branch=branch
        )
    model.graph.node.insert(0, node)
    _feed(model, "bomb", rng)


def _laughs(model: ModelProto, rng: Random) -> None:
    """Functions that each call the one before twice, or each other."""
    depth = rng.choice((2, 8, 40))
    for index in range(depth):
        callee = f"f{index - 1}" if index else rng.choice(("Identity", f"f{depth - 1}"))
        domain = "fun" if callee != "Identity" else ""
        nodes = [
            helper.make_node(callee, ["a"], ["b"], domain=domain),
            helper.make_node(callee, ["b"], ["c"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("fun", 1)]
        model.functions.append(helper.make_function("fun", f"f{index}", ["a"], ["c"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("fun", 1))
    model.graph.node.insert(0, helper.make_node(f"f{depth - 1}", ["images"], ["bomb"], domain="fun"))
    _feed(model, "bomb", rng)


def _nested(model: ModelProto, rng: Random) -> None:
    """Branches in branches."""
    given = [helper.make_tensor_value_info("bomb", TensorProto.INT64, [])]
    node, condition = helper.make_node("Identity", [_constant(model, 1)], ["bomb"]), _constant(model, True)
    for _ in range(rng.choice((2, 5, 14))):
        branch = helper.make_graph([node], "branch", [], given)
        node = helper.make_node("If", [condition], ["bomb"], then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, node)
    _feed(model, "bomb", rng)


def _constant(model: ModelProto, value: object) -> str:
    """A new weight of the graph, by its name."""
    array = np.array(value)
    array = array.astype(np.float32) if array.dtype.kind == "f" else array
    name = f"new_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _names(model: ModelProto) -> list[str]:
    """All values of the graph, by name."""
    graph = model.graph
    outputs = [name for node in graph.node for name in node.output]
    return [*outputs, *(one.name for part in (graph.input, graph.initializer) for one in part)]


# --- any field of any message ----------------------------------------------------------------------


def edit_field(model: ModelProto, rng: Random) -> None:
    """A field found at random is cleared, or takes another value of its type."""
    message: Any = model
    while True:
        field, value = rng.choice(message.ListFields())
        parts = value if hasattr(value, "__len__") and not isinstance(value, str | bytes) else [value]
        below = [part for part in parts if hasattr(part, "ListFields") and part.ListFields()]
        if not below or rng.random() < 0.1:
            break
        message = rng.choice(below)
    if rng.random() < 0.2 or below:
        message.ClearField(field.name)
    elif parts is value:
        value[rng.randrange(len(value))] = _like(value[0], rng)
    else:
        setattr(message, field.name, _like(value, rng))


def _like(value: object, rng: Random) -> object:
    choices = {int: INTS, float: FLOATS, str: TEXTS, bytes: (b"", b"\xff\xfe", b"x" * 1000)}
    return rng.choice(choices[type(value)])


EDITS: tuple[Edit, ...] = (
    *(edit_metadata, edit_metadata, edit_header, edit_declared, swap_outputs, wrap_output, edit_nodes),
    *(edit_nodes, edit_attribute, edit_attribute, edit_weight, edit_constant, add_bomb, edit_field),
)
