"""ONNX files: they compute what the network computes, keep its zeros, and say what they are."""

import copy
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sparsity import count_sparsity, layer_sparsity, prune
from sparsity.base.errors import InputError
from sparsity.formats import onnx_file
from sparsity.formats.onnx_file import Exporter, read, write, write_model
from sparsity.pruning.layers import convolutions
from sparsity.yolo.heads import choose_head, keep_head
from sparsity.yolo.network import Network, fuse
from tests.narrow_networks import NEWER, narrow
from tests.small_networks import newer_networks, small_networks

COLLIDING = "{" + ",".join(f"{i * (2**61 - 1)}:0" for i in range(40_000)) + "}"
"""A dict that takes a minute to be made, because all keys have the hash 0."""


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(3))


def run(path, images) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})


def test_a_file_gives_the_networks_boxes_at_any_size(shallow, images, tmp_path):
    prune(shallow, 0.5)
    write(shallow, tmp_path / "n.onnx")
    for some in (images, images[:1], images[:, :, :64, :32]):
        (decoded,) = run(tmp_path / "n.onnx", some)
        with torch.inference_mode():
            expected = shallow.head.decode(shallow(some))
        assert decoded.shape == (len(some), some.shape[2] * some.shape[3] // 256 * 3, 8)
        np.testing.assert_allclose(decoded, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize(
    "network", [small_networks()[2], *newer_networks()], ids=["yolov8", "yolo12", "yolo26"]
)
def test_graphs_of_attention_and_two_branches_take_any_size(network, opset, images, tmp_path):
    """The graph was traced for another size."""
    write_model(Exporter(decoded=True, opset=opset).export(network), tmp_path / "n.onnx")
    for some in (images, images[:1, :, :64, :32]):
        (decoded,) = run(tmp_path / "n.onnx", some)
        with torch.inference_mode():
            expected = network.head.decode(network(some))
        np.testing.assert_allclose(decoded, expected.numpy(), rtol=1e-4, atol=1e-3)
    read(tmp_path / "n.onnx")


def test_a_graph_has_the_branch_that_runs(images, tmp_path):
    network = choose_head(copy.deepcopy(newer_networks()[1]), "one2one")
    write_model(Exporter(decoded=False).export(network), tmp_path / "n.onnx")
    with torch.inference_mode():
        expected = network(images)
    for ours, theirs in zip(run(tmp_path / "n.onnx", images), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_what_is_read_is_what_was_written(shallow, tmp_path):
    prune(shallow, 0.5)
    write(shallow, tmp_path / "n.onnx")
    file = read(tmp_path / "n.onnx")
    assert file.names == shallow.names
    assert file.strides == (16,)
    assert count_sparsity(file) == count_sparsity(shallow)
    layers = {layer.name: layer for layer in layer_sparsity(shallow)}
    assert {layer.name: layer for layer in layer_sparsity(file)} == layers
    model = onnx.load(tmp_path / "n.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        *("batch", "", "height", "width")
    ]


@pytest.fixture
def with_gamma() -> Network:
    """A small YOLO12 with factors for channels, of which some are 0."""
    network = fuse(copy.deepcopy(newer_networks()[0]))
    network.model[1].gamma[:5] = 0
    return network


def test_gamma_counts_as_in_the_network(with_gamma, tmp_path):
    write(with_gamma, tmp_path / "n.onnx")
    assert count_sparsity(read(tmp_path / "n.onnx")) == count_sparsity(with_gamma)


def test_gamma_is_in_a_file_for_one_size(with_gamma, images, tmp_path):
    write_model(Exporter(decoded=True, side=64).export(with_gamma), tmp_path / "n.onnx")
    some = images[:1, :, :64, :64]
    with torch.inference_mode():
        expected = with_gamma.head.decode(with_gamma(some))
    np.testing.assert_allclose(run(tmp_path / "n.onnx", some)[0], expected.numpy(), rtol=1e-4, atol=1e-3)


def test_gamma_counts_where_an_exporter_folded_its_reshaping(with_gamma, tmp_path):
    model = Exporter(decoded=True).export(with_gamma)
    (gamma,) = (one for one in model.graph.initializer if one.name.endswith(".gamma"))
    (reshape,) = (node for node in model.graph.node if gamma.name in node.input)
    gamma.dims[:] = [1, gamma.dims[0], 1, 1]
    gamma.name = reshape.output[0]
    model.graph.node.remove(reshape)
    write_model(model, tmp_path / "n.onnx")
    assert count_sparsity(read(tmp_path / "n.onnx")) == count_sparsity(with_gamma)


def test_other_weights_in_the_same_shape_are_not_traced_again(shallow, images, tmp_path, monkeypatch):
    exporter = Exporter(decoded=False)
    exporter.export(shallow)
    monkeypatch.setattr(onnx_file, "_export", lambda _module: pytest.fail("traced again"))
    other = prune(copy.deepcopy(shallow), 0.7)
    with torch.no_grad():
        other.head.m[0].bias.zero_()
        for module in other.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.bias.fill_(0.25)
    write_model(exporter.export(other), tmp_path / "other.onnx")
    with torch.inference_mode():
        expected = other(images)
    for ours, theirs in zip(run(tmp_path / "other.onnx", images), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_other_anchors_are_traced_anew(shallow, images, tmp_path):
    exporter = Exporter(decoded=True)
    exporter.export(shallow)
    shallow.head.anchors.mul_(2)
    write_model(exporter.export(shallow), tmp_path / "n.onnx")
    with torch.inference_mode():
        expected = shallow.head.decode(shallow(images))
    np.testing.assert_allclose(run(tmp_path / "n.onnx", images)[0], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_batch_norms_that_stand_apart_are_fused(shallow_unfused, images, tmp_path):
    exporter = Exporter(decoded=True)
    for shift in (0.0, 0.5):
        with torch.no_grad():
            for module in shallow_unfused.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean += shift
        before = copy.deepcopy(shallow_unfused.state_dict())
        write_model(exporter.export(shallow_unfused), tmp_path / "n.onnx")
        with torch.inference_mode():
            expected = shallow_unfused.head.decode(shallow_unfused(images))
        np.testing.assert_allclose(run(tmp_path / "n.onnx", images)[0], expected, rtol=1e-3, atol=1e-2)
        assert all(torch.equal(before[name], one) for name, one in shallow_unfused.state_dict().items())


def detector(numbers: int) -> onnx.ModelProto:
    """A convolution whose cells have so many numbers each, as YOLOv5 puts them out; two class names."""
    make, float_, array = onnx.helper.make_node, onnx.TensorProto.FLOAT, onnx.numpy_helper.from_array
    value = onnx.helper.make_tensor_value_info
    nodes = [
        make("Conv", ["images", "weight"], ["raw"], kernel_shape=[1, 1], strides=[32, 32]),
        make("Reshape", ["raw", "shape"], ["flat"]),
        make("Transpose", ["flat"], ["output0"], perm=[0, 2, 1]),
    ]
    weights = [
        array(np.ones((numbers, 3, 1, 1), np.float32), "weight"),
        array(np.array([0, numbers, -1]), "shape"),
    ]
    images = value("images", float_, ["batch", 3, "height", "width"])
    output = value("output0", float_, ["batch", "cells", numbers])
    graph = onnx.helper.make_graph(nodes, "g", [images], [output], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    for key, text in {"names": "{0: 'cat', 1: 'dog'}", "stride": "32"}.items():
        model.metadata_props.add(key=key, value=text)
    return model


@pytest.fixture
def good() -> onnx.ModelProto:
    """A detector of the two classes that its metadata name."""
    return detector(7)


def changed(model: onnx.ModelProto, key: str, value: str | None) -> onnx.ModelProto:
    model = copy.deepcopy(model)
    entries = [entry for entry in model.metadata_props if entry.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    if value is not None:
        model.metadata_props.add(key=key, value=value)
    return model


def test_yolov5s_own_metadata_is_read(good, tmp_path):
    write_model(changed(good, "names", "['cat', 'dog']"), tmp_path / "a.onnx")
    assert read(tmp_path / "a.onnx").names == ("cat", "dog")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("names", None, "has no class names (metadata `names`)", id="no names"),
        pytest.param("names", "{0: 'cat', 2: 'dog'}", "not a dict of names from 0 on", id="a gap"),
        pytest.param("names", "__import__('os').abort()", "not a dict of names", id="code"),
        pytest.param("names", "[" * 5000, "not a dict of names", id="nested without end"),
        pytest.param("names", "{0: 'cat'}", "[batch, cells, 6] is expected", id="another number of classes"),
        pytest.param("stride", None, "metadata `stride` is None", id="no stride"),
        pytest.param("stride", "-1", "metadata `stride` is '-1'", id="a stride below 1"),
        pytest.param("stride", "Infinity", "metadata `stride` is 'Infinity'", id="an infinite stride"),
        pytest.param("stride", "1e400", "metadata `stride` is '1e400'", id="a huge stride"),
        pytest.param("stride", "[" * 5000, "metadata `stride` is", id="a nested stride"),
        pytest.param("stride", "32" + " " * 100, "is '32  ", id="a long stride"),
        pytest.param("stride", "\x1b[2J", "metadata `stride` is", id="a stride for a terminal"),
        pytest.param("names", "-" * 10**5 + "1", "not a dict of names", id="a long sum"),
        pytest.param(
            "names", "{0: 'cat', 1: 'dog'}" + " " * 2**20, "not a dict of names", id="1 MB of names"
        ),
        pytest.param("names", COLLIDING, "not a dict of names", id="numbers of one hash"),
        pytest.param("names", "{[]: 'cat'}", "not a dict of names", id="a list for an index"),
        pytest.param("args", "{'nms': True}", "ends in NMS (its metadata say so)", id="NMS"),
        pytest.param("end2end", "True", "gives an output of (2, 20, 7)", id="a head without NMS"),
        pytest.param("dialect", "yolov99", "metadata `dialect` is 'yolov99'", id="an unknown dialect"),
    ],
)
def test_what_is_missing_is_named(good, tmp_path, key, value, words):
    write_model(changed(good, key, value), tmp_path / "a.onnx")
    with pytest.raises(InputError, match=re.escape(words)):
        read(tmp_path / "a.onnx")


def refusal(model: onnx.ModelProto, folder: Path) -> str:
    """The line with which a file of this content is refused."""
    write_model(model, folder / "a.onnx")
    with pytest.raises(InputError) as caught:
        read(folder / "a.onnx")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_six_numbers_of_two_classes_are_detections(tmp_path):
    found = refusal(changed(detector(6), "names", "['cat', 'dog']"), tmp_path)
    assert "ends in NMS (its first output has 6 numbers" in found


def test_six_numbers_of_one_class_are_told_apart_by_metadata_and_graph(tmp_path):
    model, path = changed(detector(6), "names", "['cat']"), tmp_path / "a.onnx"
    write_model(model, path)
    assert read(path).dialect == "yolov5", "box, objectness, class"
    assert "its metadata say so" in refusal(
        changed(model, "args", "{'nms': True, 'dynamic': True}"), tmp_path
    )
    for name in ("NonMaxSuppression", "EfficientNMS_TRT"):
        other = copy.deepcopy(model)
        other.graph.node.append(onnx.helper.make_node(name, ["images"], ["kept"]))
        assert f"its graph has {name}" in refusal(other, tmp_path)


def test_an_output_without_declared_sizes_is_inferred(good, tmp_path):
    for dim in good.graph.output[0].type.tensor_type.shape.dim[1:]:
        dim.ClearField("dim_value")
        dim.dim_param = "some"
    write_model(good, tmp_path / "a.onnx")
    assert read(tmp_path / "a.onnx").dialect == "yolov5"


def test_a_graph_that_shape_inference_cannot_read_is_damaged(good, tmp_path, monkeypatch):
    def fails(*_arguments, **_options):
        raise ValueError("vector::reserve")

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", fails)
    assert "damaged: its graph does not fit together (vector::reserve)" in refusal(good, tmp_path)


# --- YOLO11, YOLO12 and YOLO26 ---------------------------------------------------------------------


def as_exported_by_the_package(model: onnx.ModelProto, **more: str) -> onnx.ModelProto:
    """The model without what only our own files say."""
    model = changed(model, "dialect", None)
    for dim in model.graph.output[0].type.tensor_type.shape.dim[1:]:
        if dim.dim_param:
            dim.dim_param = "anchors"
    for key, value in more.items():
        model = changed(model, key, value)
    return model


@pytest.mark.parametrize("key", NEWER)
def test_files_of_newer_families_give_the_networks_boxes(key, tmp_path):
    network = prune(narrow(key), 0.5)
    write(network, tmp_path / "n.onnx")
    file = read(tmp_path / "n.onnx")
    assert (file.dialect, file.names, file.largest_stride) == (network.dialect, network.names, 32)
    running = keep_head(copy.deepcopy(network), network.head.branch) if network.head.branch else network
    ours, theirs = count_sparsity(running), count_sparsity(file)
    assert (theirs.conv_layers, theirs.conv_zeros) == (ours.conv_layers, ours.conv_zeros)
    groups = {name: module.groups for name, module in convolutions(running)}
    assert {name: module.groups for name, module in convolutions(file)} == groups
    for size in ((2, 3, 64, 96), (1, 3, 160, 192)):
        images = torch.rand(size, generator=torch.Generator().manual_seed(3))
        (decoded,) = run(tmp_path / "n.onnx", images)
        with torch.inference_mode():
            expected = network.head.decode(network(images)).numpy()
        assert decoded.shape == expected.shape
        if network.head.branch == "one2one":
            # Near ties can be in another order, and at the end other ones can be chosen.
            assert decoded.shape[1:] == (300, 6)
            np.testing.assert_allclose(decoded[..., 4], expected[..., 4], rtol=0, atol=1e-5)
            nearest = np.abs(decoded[:, :40, None] - expected[:, None]).max(3).min(2)
            assert nearest.max() < 1e-2
        else:
            np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("key", "dialect", "end2end"),
    [
        pytest.param("yolo11", "yolov8", "False", id="YOLO11"),
        pytest.param("yolo12", "yolov8", "False", id="YOLO12"),
        pytest.param("yolo26", "yolo26", "False", id="YOLO26"),
        pytest.param("yolo26 one2one", "yolo26_one2one", "True", id="YOLO26 without NMS"),
    ],
)
def test_exports_of_the_package_are_told_apart(key, dialect, end2end, tmp_path):
    model = Exporter(decoded=True).export(narrow(key))
    told = as_exported_by_the_package(model, end2end=end2end, head="Detect")
    write_model(told, tmp_path / "a.onnx")
    assert read(tmp_path / "a.onnx").dialect == dialect


def test_detections_of_other_heads_are_refused(tmp_path):
    model = Exporter(decoded=True).export(narrow("yolo26 one2one"))
    told = as_exported_by_the_package(model, end2end="True", head="v10Detect")
    assert "ends in NMS (its head is 'v10Detect')" in refusal(told, tmp_path)
    assert "damaged" not in refusal(as_exported_by_the_package(model), tmp_path)


def test_a_graph_that_needs_many_cells_is_tried_with_many(tmp_path):
    model = Exporter(decoded=True).export(narrow("yolo26 one2one"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([300]), "most"))
    for one in model.graph.node:
        if one.op_type == "TopK":
            one.input[1] = "most"
    write_model(as_exported_by_the_package(model, end2end="True"), tmp_path / "a.onnx")
    assert read(tmp_path / "a.onnx").dialect == "yolo26_one2one"


# --- graphs that declare what they are not, or never end -------------------------------------------


def put(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The model with nodes between its convolution and the rest: they take raw, and give raw2."""
    rest = next(node for node in model.graph.node if node.op_type == "Reshape")
    rest.input[0] = "raw2"
    for node in nodes:
        model.graph.node.insert(1, node)
    return model


def node(kind: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, list(inputs), ["raw2"], **attributes)


def weight(model: onnx.ModelProto, value: object) -> str:
    """A new weight of the model, by its name."""
    name = f"new{len(model.graph.initializer)}"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    return name


def huge(model: onnx.ModelProto) -> None:
    put(model, node("Tile", "raw", weight(model, [1, 1, 9000, 9000])))


def padded(model: onnx.ModelProto) -> None:
    put(model, node("Pad", "raw", weight(model, [0, 0, 0, 0, 0, 0, 10**5, 10**4])))


def slow(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((7, 3, 600, 600), np.float32), "weight")
    )
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [300] * 4))


def endless(model: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    put(model, node("Loop", weight(model, 2**62), weight(model, True), "raw", body=body))


def endless_in_a_branch(model: onnx.ModelProto) -> None:
    loop = node("Loop", weight(model, 2**62), body=onnx.helper.make_graph([], "body", [], []))
    branch = onnx.helper.make_graph([loop], "branch", [], [])
    put(model, node("If", weight(model, True), then_branch=branch, else_branch=branch))


def many_branches(model: onnx.ModelProto) -> None:
    inner = node("Identity", "raw")
    for _ in range(11):
        branch = onnx.helper.make_graph([inner], "branch", [], [])
        inner = node("If", "raw", then_branch=branch, else_branch=branch)
    put(model, inner)


def functions(model: onnx.ModelProto, *callees: str) -> None:
    """Functions f0, f1, ... that each call another twice."""
    for index, callee in enumerate(callees):
        domain = "fun" if callee.startswith("f") else ""
        calls = [onnx.helper.make_node(callee, [a], [b], domain=domain) for a, b in ("ab", "bc")]
        model.functions.append(onnx.helper.make_function("fun", f"f{index}", ["a"], ["c"], calls, []))
    put(model, node(f"f{len(callees) - 1}", "raw", domain="fun"))


def laughs(model: onnx.ModelProto) -> None:
    functions(model, "Identity", *(f"f{i}" for i in range(40)))


def call_each_other(model: onnx.ModelProto) -> None:
    functions(model, "f1", "f0")


def elsewhere(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def constant_elsewhere(model: onnx.ModelProto) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "t")
    put(model, onnx.helper.make_node("Constant", [], ["raw2"], value=elsewhere(tensor)))


def sparse_elsewhere(model: onnx.ModelProto) -> None:
    elsewhere(model.graph.sparse_initializer.add().values)


def other_numbers(model: onnx.ModelProto) -> None:
    put(model, node("Concat", "raw", "raw", axis=2))
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.array([0, 14, -1]), "shape"))


def numbers_last(model: onnx.ModelProto) -> None:
    del model.graph.node[-1].attribute[:]
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("perm", [0, 1, 2]))


def one_image(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.array([1, -1, 7]), "shape"))
    numbers_last(model)


def whole_numbers(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Cast", ["before"], ["output0"], to=7))


def by_content(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("NonZero", ["before"], ["output0"]))


def nothing(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Nothing"


def no_text(model: onnx.ModelProto) -> None:
    content = model.SerializeToString().replace(b"Transpose", b"\xff" * 9)
    model.CopyFrom(onnx.load_from_string(content))


def no_convolution(model: onnx.ModelProto) -> None:
    model.graph.node[0].CopyFrom(onnx.helper.make_node("Expand", ["first", "like"], ["raw"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 7, 2, 3), np.float32), "first"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 7, 2, 3]), "like"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(huge, "up to its Tile raw2, it needs over", id="a huge value"),
        pytest.param(padded, "up to its Pad raw2, it needs over", id="a huge margin"),
        pytest.param(slow, "up to its Conv raw, it needs over 5000000 multiplications", id="slow"),
        pytest.param(endless, "its graph has Loop, which may not end", id="a loop"),
        pytest.param(endless_in_a_branch, "its graph has Loop", id="a loop in a branch"),
        pytest.param(many_branches, "its nodes have over 1000 graphs", id="branches of branches"),
        pytest.param(laughs, "over 100000 nodes, with those of the functions", id="functions of functions"),
        pytest.param(call_each_other, "call each other without end", id="functions in a circle"),
        pytest.param(constant_elsewhere, "lie in another file", id="a constant of another file"),
        pytest.param(sparse_elsewhere, "lie in another file", id="a sparse weight of another file"),
        pytest.param(other_numbers, "gives an output of (2, 6, 14)", id="other numbers than declared"),
        pytest.param(numbers_last, "gives an output of (2, 7, 6)", id="cells and numbers swapped"),
        pytest.param(one_image, "gives an output of (1, 12, 7)", id="all images in one"),
        pytest.param(whole_numbers, "(ONNX type 7); float32", id="whole numbers"),
        pytest.param(by_content, "gives an output of (3, 0)", id="an output that depends on the image"),
        pytest.param(
            nothing, "damaged: its graph does not fit together (No schema", id="an unknown operation"
        ),
        pytest.param(no_text, "damaged: one of its names is not a text", id="a name that is not UTF-8"),
        pytest.param(no_convolution, "not a detector: its graph has no convolution", id="no convolution"),
    ],
)
def test_a_graph_that_is_no_detector_is_refused(good, tmp_path, change, words):
    change(good)
    assert words in refusal(good, tmp_path)


def test_operations_of_others_are_taken_as_declared(good, tmp_path):
    good.graph.node[-1].output[0] = "before"
    good.graph.node.append(onnx.helper.make_node("Odd", ["before"], ["output0"], domain="com.example"))
    write_model(good, tmp_path / "a.onnx")
    assert read(tmp_path / "a.onnx").dialect == "yolov5"


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        pytest.param([1, 3, 640, 640], "FLOAT", "it takes only images of [1, 3, 640, 640]", id="fixed"),
        pytest.param(["b", 3, 640, 640], "FLOAT", "--dynamic", id="fixed sides"),
        pytest.param(["b", 1, "h", "w"], "FLOAT", "not float32 of 3 channels", id="grey"),
        pytest.param(["b", 3, "h", "w"], "FLOAT16", "not float32 of 3 channels", id="half"),
        pytest.param(["b", 3], "FLOAT", "one of [batch, 3, height, width]", id="no images"),
    ],
)
def test_graphs_that_validation_cannot_feed(good, tmp_path, shape, kind, words):
    model = copy.deepcopy(good)
    images = onnx.helper.make_tensor_value_info("images", getattr(onnx.TensorProto, kind), shape)
    model.graph.input[0].CopyFrom(images)
    write_model(model, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=re.escape(words)):
        read(tmp_path / "a.onnx")


@pytest.mark.parametrize("damage", ["cut", "elsewhere", "no inputs"])
def test_weights_that_are_not_there(shallow, tmp_path, damage):
    write(shallow, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    weight = next(one for one in model.graph.initializer if one.name.endswith(".weight"))
    if damage == "cut":
        weight.raw_data = weight.raw_data[:-3]
    elif damage == "elsewhere":
        weight.data_location = onnx.TensorProto.EXTERNAL
    else:
        del next(node for node in model.graph.node if node.op_type == "Conv").input[:]
    write_model(model, tmp_path / "a.onnx")
    words = "lie in another file" if damage == "elsewhere" else "damaged: its weights"
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"PK\x03\x04 a zip", "not an ONNX file", id="another format"),
        pytest.param(None, "no such file", id="missing"),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content, words):
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(path)
