"""int8 files: their zeros stay, onnxruntime computes them in integers, and OpenVINO gives the same boxes."""

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sparsity import count_sparsity, prune
from sparsity.base.errors import InputError
from sparsity.engines.making import make_engine
from sparsity.formats import onnx_int8
from sparsity.formats.int8_runtimes import RUNTIMES
from sparsity.formats.onnx_file import read, write, write_model
from sparsity.formats.onnx_pairs import Range, add_pairs, as_unsigned, pass_pairs_on
from sparsity.pruning.layers import convolutions
from tests.narrow_networks import narrow

CPU = torch.device("cpu")
MAPS = (1, 1, 4, 4)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(3))


def run(content, images) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_keeps_zeros_names_and_about_the_answers(shallow, images, tmp_path, runtime):
    pytest.importorskip("nncf")
    prune(shallow, 0.5)
    model = onnx_int8.quantize(shallow, [images], runtime=runtime)
    onnx.checker.check_model(model, full_check=True)
    write_model(model, tmp_path / "int8.onnx")
    write(shallow, tmp_path / "float.onnx")
    stored = {one.name: one.data_type for one in model.graph.initializer}
    kinds = [kind for name, kind in stored.items() if name.endswith(".weight_quantized")]
    assert kinds == [onnx.TensorProto.INT8] * (count_sparsity(shallow).conv_layers - 1), "all but the last"
    assert stored["network.model.7.m.0.weight"] == onnx.TensorProto.FLOAT
    file = read(tmp_path / "int8.onnx")
    assert file.names == shallow.names
    assert {name for name, _ in convolutions(file)} == {name for name, _ in convolutions(shallow)}
    for (_, kept), (_, pruned) in zip(
        sorted(convolutions(file), key=lambda item: item[0]),
        sorted(convolutions(shallow), key=lambda item: item[0]),
        strict=True,
    ):
        assert not kept.weight[pruned.weight == 0].any()
    int8, exact = run(tmp_path / "int8.onnx", images)[0], run(tmp_path / "float.onnx", images)[0]
    assert not np.array_equal(int8, exact)
    assert np.abs(int8[..., 4:] - exact[..., 4:]).max() < 0.1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_both_engines_give_the_same_boxes(shallow, images, tmp_path, runtime):
    pytest.importorskip("nncf")
    write_model(onnx_int8.quantize(shallow, [images], runtime=runtime), tmp_path / "int8.onnx")
    file = read(tmp_path / "int8.onnx")
    maps = [make_engine(name).prepare(file, CPU, torch.float32)(images)[0] for name in RUNTIMES]
    assert (maps[0] - maps[1])[..., 4:].abs().max() < 0.05


@pytest.mark.parametrize("key", ["yolo11", "yolo26 one2one"])
def test_int8_of_newer_families_gives_about_the_scores(key, images, tmp_path):
    pytest.importorskip("nncf")
    network = narrow(key)
    write_model(onnx_int8.quantize(network, [images]), tmp_path / "int8.onnx")
    write(network, tmp_path / "float.onnx")
    assert read(tmp_path / "int8.onnx").dialect == network.dialect
    stored = {one.name: one.data_type for one in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    kinds = [kind for name, kind in stored.items() if name.endswith(".weight_quantized")]
    assert kinds == [onnx.TensorProto.INT8] * (count_sparsity(network).conv_layers - 6), "all but the last"
    int8, exact = run(tmp_path / "int8.onnx", images)[0], run(tmp_path / "float.onnx", images)[0]
    scores = (int8[..., 4], exact[..., 4]) if network.head.branch else (int8[:, 4:], exact[:, 4:])
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.1


def test_int8_is_computed_in_integers_by_all_convolutions_but_the_last(shallow, images, tmp_path):
    pytest.importorskip("nncf")
    write_model(onnx_int8.quantize(shallow, [images]), tmp_path / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    onnxruntime.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "as_run.onnx").graph.node)
    assert ran["QLinearConv"] == len(list(convolutions(shallow))) - 1
    assert ran["Conv"] + ran["FusedConv"] == 1


def test_the_same_images_give_the_same_file(shallow, images):
    pytest.importorskip("nncf")
    one, other = (onnx_int8.quantize(shallow, [images]).SerializeToString() for _ in range(2))
    assert one == other


def test_weights_have_7_bits(shallow, images):
    pytest.importorskip("nncf")
    model = onnx_int8.quantize(shallow, [images])
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight_quantized"):
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 64, tensor.name


def test_nncf_comes_without_its_telemetry():
    pytest.importorskip("nncf")
    code = (
        "import sys; from sparsity.formats.onnx_int8 import _import_nncf; _import_nncf(); "
        "from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__); "
        "print('openvino_telemetry' in sys.modules and sys.modules['openvino_telemetry'] is None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["MagicMock", "False"]


def test_int8_without_nncf_names_the_pip_command(shallow, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"`int8` needs the package nncf .*: pip install nncf"):
        onnx_int8.quantize(shallow, [images])


def test_int8_without_images_says_what_to_do(shallow):
    with pytest.raises(InputError, match="`int8` needs images; give some by `calibration`"):
        onnx_int8.quantize(shallow, [])


def test_int8_for_an_unknown_runtime(shallow, images):
    with pytest.raises(InputError, match="`int8` is 'tensorrt'; onnxruntime or openvino is expected"):
        onnx_int8.quantize(shallow, [images], runtime="tensorrt")


def graph_of(nodes, numbers) -> onnx.ModelProto:
    """A graph x -> y. numbers: name -> array of a weight."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(*node[:3], name=f"n{i}", **node[3]) for i, node in enumerate(nodes)],
        "g",
        [onnx.helper.make_tensor_value_info("images", kind, [1, 1, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


PAIR = [
    ("QuantizeLinear", ["images", "s", "z"], ["q"], {}),
    ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
]
NUMBERS = {"s": np.float32(0.01), "z": np.int8(-120)}


def test_unsigned_pairs_give_the_same_numbers():
    model = graph_of([*PAIR, ("Identity", ["d"], ["y"], {})], NUMBERS)
    image = torch.rand(MAPS, generator=torch.Generator().manual_seed(0))
    before = run(model.SerializeToString(), image)[0]
    as_unsigned(model)
    assert onnx.numpy_helper.to_array(model.graph.initializer[1]) == np.uint8(8)
    np.testing.assert_array_equal(run(model.SerializeToString(), image)[0], before)


@pytest.mark.parametrize(("other", "pairs"), [(0.01, 3), (0.02, 2)], ids=["same scale", "other scale"])
def test_pairs_are_passed_on_where_no_number_changes(other, pairs):
    nodes = [
        *PAIR,
        ("QuantizeLinear", ["images", "t", "z"], ["r"], {}),
        ("DequantizeLinear", ["r", "t", "z"], ["e"], {}),
        ("Concat", ["d", "e"], ["c"], {"axis": 1}),
        ("Sigmoid", ["c"], ["y"], {}),
    ]
    model = graph_of(nodes, {**NUMBERS, "t": np.float32(other)})
    image = torch.rand(MAPS, generator=torch.Generator().manual_seed(0))
    before = run(model.SerializeToString(), image)[0]
    pass_pairs_on(model)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == pairs
    np.testing.assert_array_equal(run(model.SerializeToString(), image)[0], before)


@pytest.mark.parametrize(
    ("least", "most"),
    [
        pytest.param(-1.0, 1.0, id="both signs"),
        pytest.param(0.5, 1.0, id="0 is always held"),
        pytest.param(0.0, 0.0, id="nothing but 0"),
    ],
)
def test_an_added_pair_holds_its_range(least, most):
    model = graph_of([("Relu", ["images"], ["v"], {}), ("Identity", ["v"], ["y"], {})], {})
    add_pairs(model, {"v": Range(least, most)})
    image = torch.linspace(0, most, 16).reshape(MAPS)
    found = run(model.SerializeToString(), image)[0]
    assert np.abs(found - image.numpy()).max() <= (most - min(least, 0)) / 255
