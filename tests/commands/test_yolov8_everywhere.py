"""What takes a network takes a YOLOv8: pruning, compacting, sweeps, engines and every saved form."""

import copy
import pickletools
import sys
import zipfile
from math import prod
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sparsity import (
    InputError,
    Method,
    Pruner,
    ValidationSettings,
    compact,
    count_sparsity,
    layer_sparsity,
    load,
    prune,
    save,
    sweep,
    validate,
)
from sparsity.channels.cutting import cut
from sparsity.channels.graph import trace_channels
from sparsity.commands import val as val_sparse
from sparsity.data.dataset import read_dataset
from sparsity.engines.making import make_engine
from sparsity.engines.table import ENGINES
from sparsity.formats import onnx_file, onnx_int8
from sparsity.formats.half import round_to_half
from sparsity.sweeping.layer_sensitivity import measure_layers
from sparsity.validation.detector import Detector, Lanes, Thresholds
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import build, fuse
from sparsity.yolo.yolov8 import architectures

CPU = torch.device("cpu")
SETTINGS = ValidationSettings(imgsz=64, device="cpu", workers=0, conf_thres=0.3)
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lively(tiny_yolov8):
    """Weights large enough that what is found differs from place to place."""
    with torch.no_grad():
        for module in tiny_yolov8.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(2)
                module.bias.uniform_(-1, 1)
    return tiny_yolov8


def raw(network):
    with torch.inference_mode():
        return network(IMAGES)


def assert_alike(one, other, rtol=1e-4):
    """Raw maps differ by less than rtol of their largest number."""
    for ours, theirs in zip(raw(one), raw(other), strict=True):
        assert theirs.std() > 1e-3
        assert (ours - theirs).abs().max() < rtol * theirs.abs().max()


def assert_same(one, other):
    assert current_architecture(one) == current_architecture(other)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


# --- channels --------------------------------------------------------------------------------------


def test_the_halves_of_c2f_are_tied_and_shortcuts_tie_more(tiny_yolov8):
    layers = trace_channels(tiny_yolov8).layers
    first, second = layers["model.2.cv1.conv"].outputs.chunk(2)
    assert torch.equal(first, second)
    assert torch.equal(layers["model.2.m.0.cv1.conv"].inputs, second)
    assert torch.equal(layers["model.2.m.0.cv2.conv"].outputs, second)
    assert layers["model.2.cv2.conv"].inputs.tolist() == first.tolist() * 3
    without = layers["model.12.m.0.cv2.conv"].outputs
    assert not set(without.tolist()) & set(layers["model.12.cv1.conv"].outputs.tolist())
    assert "model.22.dfl.conv" not in layers


def test_raw_maps_are_pinned(tiny_yolov8):
    channels = trace_channels(tiny_yolov8)
    for name in ("model.22.cv2.1.2", "model.22.cv3.2.2"):
        assert channels.pinned[channels.layers[name].outputs].all()
    assert not channels.pinned[channels.layers["model.22.cv3.2.1.conv"].outputs].any()


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_network_is_one_of_fewer_channels(unfused_yolov8, tmp_path, fused, seed):
    network = fuse(unfused_yolov8) if fused else unfused_yolov8
    channels = trace_channels(network)
    drawn = torch.rand(len(channels.pinned), generator=torch.Generator().manual_seed(seed))
    keep = channels.pinned | (drawn < 0.5)
    for ends in channels.layers.values():
        keep[ends.inputs[0]] = keep[ends.outputs[-1]] = True
    smaller = cut(network, channels, keep)
    silenced = copy.deepcopy(network)
    with torch.no_grad():
        for name, ends in channels.layers.items():
            module, gone = silenced.get_submodule(name), ~keep[ends.outputs]
            module.weight[gone] = 0
            if module.bias is not None:
                module.bias[gone] = 0
    assert_alike(smaller, silenced)
    for suffix in (".pt", ".safetensors"):
        save(smaller, tmp_path / f"a{suffix}")
        assert_same(load(tmp_path / f"a{suffix}", fused=False), round_to_half(copy.deepcopy(smaller)))


@pytest.mark.parametrize("name", list(architectures.SCALES))
def test_dead_channels_go_from_every_size(monkeypatch, name):
    published = architectures.SCALES[name]
    narrow = architectures.Scale(published.depth, published.width / 8, published.most)
    monkeypatch.setitem(architectures.SCALES, "narrow", narrow)
    torch.manual_seed(0)
    network = fuse(build(architectures.yolov8("narrow", nc=3), ("a", "b", "c"))).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight[torch.rand(module.out_channels, generator=generator) < 0.3] = 0
            module.bias.uniform_(-1, 1, generator=generator)
    made = compact(network)
    assert made.channels_after < made.channels_before
    assert made.weights_after < made.weights_before
    assert_alike(made.network, network)
    assert torch.equal(made.network.head.dfl.conv.weight, network.head.dfl.conv.weight)


# --- pruning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [Method("l1", "global"), Method("l1", "lamp"), Method("obs", "layer"), Method("obs", "measured")],
    ids=str,
)
def test_every_method_prunes_it(tiny_yolov8, method):
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pruned = Pruner(tiny_yolov8, calibration=[images[:2], images[2:]]).prune(method, 0.5)
    counted = count_sparsity(pruned)
    assert counted.conv == pytest.approx(0.5, abs=0.001)
    assert counted.conv_layers == 63
    assert torch.equal(pruned.head.dfl.conv.weight.flatten(), torch.arange(16.0))


def test_obs_stays_nearer_than_magnitude(lively):
    pruner = Pruner(lively, calibration=[IMAGES])
    obs, magnitude = pruner.prune(Method("obs", "layer"), 0.5), pruner.prune(Method(), 0.5)
    dense = raw(lively)
    away = [
        sum(float((x - y).square().sum()) for x, y in zip(raw(n), dense, strict=True))
        for n in (obs, magnitude)
    ]
    assert away[0] < away[1]


def test_layers_tell_what_they_mind(lively, shapes):
    rows, dataset = [], read_dataset(shapes, lively.names)
    measure_layers(lively, dataset, ["model.0.conv", "model.22.cv3.0.2"], [0.9], SETTINGS, on_row=rows.append)
    assert [row.layer for row in rows] == ["model.0.conv", "model.22.cv3.0.2"]
    assert all(row.output_error > 0 for row in rows)


# --- saved forms -----------------------------------------------------------------------------------

STOCK = {
    *("collections OrderedDict", "__builtin__ set"),
    *("torch._utils _rebuild_parameter", "torch._utils _rebuild_tensor_v2"),
    *("torch HalfStorage", "torch LongStorage", "torch FloatStorage"),
    *("torch.nn.modules.container Sequential", "torch.nn.modules.container ModuleList"),
    *("torch.nn.modules.conv Conv2d", "torch.nn.modules.batchnorm BatchNorm2d"),
    *("torch.nn.modules.activation SiLU", "torch.nn.modules.pooling MaxPool2d"),
    "torch.nn.modules.upsampling Upsample",
    "ultralytics.nn.tasks DetectionModel",
    *("ultralytics.nn.modules.conv Conv", "ultralytics.nn.modules.conv Concat"),
    *(f"ultralytics.nn.modules.block {name}" for name in ("C2f", "Bottleneck", "SPPF", "DFL")),
    "ultralytics.nn.modules.head Detect",
}
"""The globals of a stock detection checkpoint."""


def globals_of(path):
    with zipfile.ZipFile(path) as archive:
        data = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
    return {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["fused", "unfused"])
def test_what_is_saved_comes_back_to_the_last_bit(unfused_yolov8, tmp_path, suffix, kind):
    whole = prune(fuse(unfused_yolov8) if kind == "fused" else unfused_yolov8, 0.6)
    save(whole, tmp_path / f"a{suffix}")
    back = load(tmp_path / f"a{suffix}", fused=False)
    assert_same(back, round_to_half(copy.deepcopy(whole)))
    assert (back.names, back.strides, back.dialect) == (whole.names, whole.strides, "yolov8")
    assert count_sparsity(back) == count_sparsity(whole)


def test_a_pt_names_the_classes_of_a_stock_checkpoint_alone(tiny_yolov8, tmp_path):
    save(tiny_yolov8, tmp_path / "a.pt")
    assert globals_of(tmp_path / "a.pt") <= STOCK


def test_a_pt_holds_what_the_package_looks_at(tiny_yolov8, tmp_path, monkeypatch):
    save(tiny_yolov8, tmp_path / "a.pt")
    _stand_for_the_package(monkeypatch)
    root = torch.load(tmp_path / "a.pt", weights_only=False)
    model = root["model"]
    assert root["train_args"] == {}
    assert (model.names, model.task, model.save) == (
        {0: "cat", 1: "dog", 2: "bird"},
        "detect",
        [4, 6, 9, 12, 15, 18, 21],
    )
    assert (model.model[2].c, model.model[9].n, model.model[9].add) == (4, 3, False)
    head = model.model[22]
    assert (head.f, head.i, head.nl, head.no, head.reg_max) == ([15, 18, 21], 22, 3, 67, 16)
    assert head.stride.tolist() == [8, 16, 32]
    assert head.dfl.conv.weight.flatten().tolist() == list(range(16))
    assert model.model[0].conv.bias is None
    assert model.model[0].bn.eps == 0


def _stand_for_the_package(monkeypatch):
    """Modules of the package's names, whose classes do nothing."""
    import_names = [name for name in STOCK if name.startswith("ultralytics")]
    for one in import_names:
        path, name = one.split()
        parts = path.split(".")
        for i in range(1, len(parts) + 1):
            parent = ".".join(parts[:i])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        setattr(sys.modules[path], name, type(name, (nn.Module,), {"__module__": path}))


def test_a_pts_yaml_builds_the_same_network(tiny_yolov8, tmp_path, monkeypatch):
    save(tiny_yolov8, tmp_path / "a.pt")
    _stand_for_the_package(monkeypatch)
    yaml = torch.load(tmp_path / "a.pt", weights_only=False)["model"].yaml
    assert (yaml["nc"], yaml["scales"][yaml["scale"]][:2]) == (3, [1.0, 1.0])
    assert yaml["backbone"][:3] == [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "C2f", [8, True]],
    ]
    assert yaml["backbone"][4] == [-1, 2, "C2f", [16, True]]
    assert yaml["head"][2] == [-1, 1, "C2f", [32, False]]
    assert yaml["head"][-1] == [[15, 18, 21], 1, "Detect", ["nc"]]
    assert len(yaml["backbone"]) + len(yaml["head"]) == 23


def test_a_yaml_that_would_build_another_network_is_left_out(tiny_yolov8, tmp_path, monkeypatch):
    tiny_yolov8.model[0].conv.weight[3] = 0
    save(compact(tiny_yolov8).network, tmp_path / "a.pt")
    _stand_for_the_package(monkeypatch)
    assert "backbone" not in torch.load(tmp_path / "a.pt", weights_only=False)["model"].yaml


@pytest.mark.parametrize("shape", [(2, 3, 64, 96), (1, 3, 96, 32)])
def test_an_onnx_file_gives_the_networks_boxes(lively, tmp_path, shape):
    prune(lively, 0.5)
    onnx_file.write(lively, tmp_path / "a.onnx")
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    file = onnx_file.read(tmp_path / "a.onnx")
    assert (file.dialect, file.names, file.strides) == ("yolov8", lively.names, (32,))
    layers = {layer.name: layer for layer in layer_sparsity(lively)}
    assert {layer.name: layer for layer in layer_sparsity(file)} == layers
    runner = make_engine("onnxruntime").prepare(file, CPU, torch.float32)
    with torch.inference_mode():
        expected = lively.head.decode(lively(images))
    assert expected.shape == (shape[0], 7, prod(shape[2:]) * 21 // 1024)
    np.testing.assert_allclose(runner(images)[0].numpy(), expected.numpy(), rtol=1e-4, atol=1e-3)


def open_export(path, numbers):
    """An export as the ultralytics package writes dynamic ones."""
    weight = onnx.numpy_helper.from_array(np.ones((numbers, 3, 32, 32), np.float32), "w")
    shape = onnx.numpy_helper.from_array(np.array([0, numbers, -1]), "shape")
    images = onnx.helper.make_tensor_value_info("images", 1, ["batch", 3, "height", "width"])
    output = onnx.helper.make_tensor_value_info("output0", 1, ["batch", "numbers", "cells"])
    nodes = [
        onnx.helper.make_node("Conv", ["images", "w"], ["map"], strides=[32, 32]),
        onnx.helper.make_node("Reshape", ["map", "shape"], ["output0"]),
    ]
    graph = onnx.helper.make_graph(nodes, "a", [images], [output], [weight, shape])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "32"})
    onnx.save(model, path)


def test_an_export_that_leaves_its_sizes_open_is_told_by_its_graph(tmp_path):
    open_export(tmp_path / "a.onnx", 7)
    assert onnx_file.read(tmp_path / "a.onnx").dialect == "yolov8"


def test_an_export_that_no_family_gives_is_refused(tmp_path):
    open_export(tmp_path / "a.onnx", 5)
    with pytest.raises(InputError, match=r"gives an output of \(2, 5, 6\) .* 7 numbers for each cell"):
        onnx_file.read(tmp_path / "a.onnx")


def test_dfl_as_a_convolution_is_none_to_count(lively, tmp_path):
    """As the ultralytics package exports it."""
    onnx_file.write(lively, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    bins = onnx.numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1), "dfl.weight")
    model.graph.initializer.append(bins)
    model.graph.node.append(onnx.helper.make_node("Conv", ["anything", "dfl.weight"], ["nothing"]))
    onnx.save(model, tmp_path / "b.onnx")
    assert count_sparsity(onnx_file.read(tmp_path / "b.onnx")) == count_sparsity(lively)


def test_int8_keeps_boxes_near_and_dfl_whole(lively, tmp_path):
    pytest.importorskip("nncf")
    onnx_file.write_model(onnx_int8.quantize(lively, [IMAGES]), tmp_path / "a.onnx")
    file = onnx_file.read(tmp_path / "a.onnx")
    assert file.dialect == "yolov8"
    runner = make_engine("onnxruntime").prepare(file, CPU, torch.float32)
    with torch.inference_mode():
        expected = lively.head.decode(lively(IMAGES))
    assert (runner(IMAGES)[0] - expected)[:, 4:].abs().mean() < 0.05


# --- engines, validation, sweeps -------------------------------------------------------------------


def detect(network, pixels, engine):
    with Lanes(CPU) as lanes:
        return Detector(network, lanes, thresholds=Thresholds(0.3, 0.7, 20), engine=engine).detect(pixels)


@pytest.mark.parametrize(
    "name", [name for name in ENGINES if name != "torch" and ENGINES[name].computes_in is None]
)
def test_engines_find_what_torch_finds(lively, tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    expected, engine = detect(lively, pixels, make_engine("torch")), make_engine(name)
    onnx_file.write(lively, tmp_path / "a.onnx")
    files = [] if name == "sparse" else [onnx_file.read(tmp_path / "a.onnx")]
    for network in (lively, *files):
        for ours, theirs in zip(detect(network, pixels, engine), expected, strict=True):
            assert len(ours) == len(theirs) > 0
            torch.testing.assert_close(ours.boxes_xyxy, theirs.boxes_xyxy, rtol=1e-4, atol=1e-2)
            assert torch.equal(ours.classes, theirs.classes)


def test_half_precision_leaves_the_bins_whole(tiny_yolov8):
    runner = make_engine("torch").prepare(tiny_yolov8, CPU, torch.bfloat16)
    assert torch.equal(runner.network.head.dfl.conv.weight.float().flatten(), torch.arange(16.0))
    found = runner.candidates(runner(IMAGES.to(torch.bfloat16)), 0.1)
    assert found.boxes_xyxy.dtype == torch.float32


def test_a_sweep_gives_what_a_validation_gives(lively, shapes):
    frame = sweep(lively, shapes, [0.5], settings=SETTINGS, batch_sizes=(), compact=True, bootstrap=0)
    single = validate(prune(lively, 0.5), shapes, SETTINGS).metrics
    row = frame[frame.amount == 0.5].iloc[0]
    assert (row.mAP50, row.P, row.R, row.AP) == (single.mAP50, single.P, single.R, single.AP)
    assert (row.batch_size, row.iou_thres) == (16, 0.7)
    assert row.size_safetensors_mb < row.size_pt_mb


def test_val_sparse_prunes_saves_and_reads_it_again(lively, shapes, tmp_path, run_script):
    save(lively, tmp_path / "a.pt")
    out_files = [tmp_path / f"b{suffix}" for suffix in (".pt", ".safetensors", ".onnx")]
    flags = ("--data", shapes, "--img", 64, "--project", tmp_path, "--device", "cpu", "--workers", 0)
    saved = [flag for file in out_files for flag in ("--save", file)]
    code, out, err = run_script(val_sparse, "--weights", tmp_path / "a.pt", "--sparsity", 0.5, *flags, *saved)
    assert code == 0, err
    assert "Counting as YOLOv8 does" in out
    for file in out_files:
        engine = ("--engine", "onnxruntime") if file.suffix == ".onnx" else ()
        code, out, err = run_script(val_sparse, "--weights", file, *flags, *engine)
        assert code == 0, err
        assert "63 Conv2d layers" in out
        # Families whose heads are alike look the same in an .onnx file.
        name = "YOLOv8/YOLO11/YOLO12" if file.suffix == ".onnx" else "YOLOv8"
        assert f"Counting as {name} does" in out
