"""All engines give the detections of PyTorch; what an engine can't run is refused by name."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from sparsity import ValidationSettings, prune, save, validate
from sparsity.base.errors import InputError
from sparsity.engines import openvino
from sparsity.engines.graphs import Graphs
from sparsity.engines.making import make_engine, make_engines
from sparsity.engines.table import ENGINES
from sparsity.formats import onnx_file
from sparsity.validation.detector import Detector, Lanes, Thresholds
from tests.narrow_networks import FEW, narrow

CPU = torch.device("cpu")
OTHERS = [name for name in ENGINES if name != "torch" and ENGINES[name].computes_in is None]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)


def detect(network, pixels, engine):
    with Lanes(CPU) as lanes:
        return Detector(network, lanes, thresholds=Thresholds(0.2, 0.65, 20), engine=engine).detect(pixels)


def same(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other) > 0
        torch.testing.assert_close(one.boxes_xyxy, other.boxes_xyxy, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(one.classes, other.classes)


@pytest.mark.parametrize("name", OTHERS)
def test_engines_find_what_torch_finds(shallow, pixels, tmp_path, name):
    prune(shallow, 0.5)
    expected = detect(shallow, pixels, make_engine("torch"))
    engine = make_engine(name)
    same(detect(shallow, pixels, engine), expected)
    same(detect(shallow, pixels[:, :, :32], engine), detect(shallow, pixels[:, :, :32], make_engine("torch")))
    onnx_file.write(shallow, tmp_path / "a.onnx")
    file = onnx_file.read(tmp_path / "a.onnx")
    if name == "sparse":
        with pytest.raises(InputError, match="run by `engine` onnxruntime or openvino, not by sparse"):
            detect(file, pixels, engine)
    else:
        same(detect(file, pixels, engine), expected)


@pytest.mark.parametrize("key", FEW)
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_maps_of_newer_families_are_torchs_at_two_sizes(name, key):
    network = narrow(key)
    runner = make_engine(name).prepare(network, CPU, torch.float32)
    for size in ((2, 3, 64, 96), (1, 3, 128, 64)):
        images = torch.rand(size, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            expected = network(images)
        for ours, theirs in zip(runner(images), expected, strict=True):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_files_without_nms_find_what_torch_finds(pixels, tmp_path, name):
    network = narrow("yolo26 one2one")
    onnx_file.write(network, tmp_path / "a.onnx")
    file = onnx_file.read(tmp_path / "a.onnx")
    ours, theirs = (best_first(*pair, pixels) for pair in ((file, name), (network, "torch")))
    for one, other in zip(ours, theirs, strict=True):
        assert 0 < len(one) == len(other) < 300
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def best_first(network, name, pixels) -> list[torch.Tensor]:
    """Return boxes, scores and classes of each image, without NMS; equal scores in the order of the boxes."""
    with Lanes(CPU) as lanes:
        thresholds = Thresholds(0.5, 0.65, 300)
        detector = Detector(network, lanes, thresholds=thresholds, nms=False, engine=make_engine(name))
        found = detector.detect(pixels)
    rows = [torch.cat((one.boxes_xyxy, one.scores[:, None], one.classes[:, None]), 1) for one in found]
    return [one[np.lexsort(one.numpy().round(2).T[::-1])] for one in rows]


def test_validation_by_an_engine_gives_the_same_figures(shallow, shapes, tmp_path):
    onnx_file.write(shallow, tmp_path / "a.onnx")
    settings = {"imgsz": 64, "batch_size": 2, "workers": 1}
    exact = validate(shallow, shapes, ValidationSettings(**settings, device="cpu"))
    file = onnx_file.read(tmp_path / "a.onnx")
    done = validate(file, shapes, ValidationSettings(**settings, engine="onnxruntime"))
    assert done.metrics.engine == "onnxruntime"
    assert abs(done.metrics.AP - exact.metrics.AP) < 1e-6
    assert done.metrics.conv_zeros == exact.metrics.conv_zeros
    assert abs(len(done.predictions) - len(exact.predictions)) <= 2, "one may pass the threshold here alone"
    assert len(exact.predictions) > 100


def test_engines_share_what_they_trace(shallow, monkeypatch):
    engines = make_engines(OTHERS)
    engines["onnxruntime"].prepare(shallow, CPU, torch.float32)
    monkeypatch.setattr(onnx_file, "_export", lambda _module: pytest.fail("traced again"))
    engines["openvino"].prepare(shallow, CPU, torch.float32)


def test_an_onnx_file_is_not_for_torch(shallow, tmp_path):
    onnx_file.write(shallow, tmp_path / "a.onnx")
    with pytest.raises(InputError, match="`engine` onnxruntime or openvino"):
        make_engine("torch").prepare(onnx_file.read(tmp_path / "a.onnx"), CPU, torch.float32)


def test_a_missing_package_is_named_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="`engine` openvino needs the package openvino"):
        make_engine("openvino")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="pip install onnx"):
        make_engine("onnxruntime")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(
            {"engine": "tensorrt"},
            "one of torch, onnxruntime, openvino, openvino-bf16, sparse, sparse-bf16, sparse-int8",
            id="unknown",
        ),
        pytest.param({"engine": "onnxruntime", "half": True}, "leave `half` out", id="half"),
        pytest.param({"engine": "openvino", "device": "cuda:0"}, "leave `device` cuda:0 out", id="a GPU"),
    ],
)
def test_settings_that_an_engine_cannot_meet(flags, words):
    with pytest.raises(InputError, match=words):
        ValidationSettings(**flags)


def test_engines_other_than_torch_stay_on_the_cpu():
    assert ValidationSettings(engine="openvino").device == "cpu"
    for name in ("onnxruntime", "openvino", "sparse"):
        with pytest.raises(InputError, match=f"{name}.* computes in float32 on the CPU; bfloat16 on cpu"):
            make_engine(name).prepare(torch.nn.Identity(), CPU, torch.bfloat16)


MEET = """
import sys, threading
from sparsity.engines import openvino
from sparsity.engines.graphs import Graphs
from sparsity.engines.making import make_engine
make_engine("openvino")
import openvino
sys.setswitchinterval(1e-6)
barrier, left = threading.Barrier(8), []
def call():
    barrier.wait()
    left.append(openvino.Type.f32.to_dtype())
threads = [threading.Thread(target=call) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(left))
"""
"""A process whose threads all use OpenVINO's types at once; 7 of 10 hung if none had used them before."""


FREED = """
import signal, threading
import torch
from sparsity.engines import openvino
from sparsity.engines.graphs import Graphs
from sparsity.engines.making import make_engine
from sparsity.yolo.network import build
from sparsity.yolo.yolov5.architectures import yolov5
network = build(yolov5("yolov5n", nc=1), ("cat",)).eval()
runners = [make_engine("openvino").prepare(network, torch.device("cpu"), torch.float32)]
runners[0](torch.zeros(1, 3, 64, 64))
thread = threading.Thread(target=runners.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
"""A process that handles a signal after another thread freed what used OpenVINO."""


@pytest.mark.slow
def test_a_signal_after_openvino_is_freed_in_a_thread_is_handled():
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.slow
def test_lanes_that_meet_in_openvino_do_not_lock_up():
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    done = subprocess.run([sys.executable, "-c", MEET], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["8"], done.stderr


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(torch.zeros(1, 10, 7), id="other numbers"),
        pytest.param(torch.zeros(10, 8), id="no batch"),
        pytest.param(torch.zeros(1, 10, 8, dtype=torch.int64), id="no floats"),
    ],
)
def test_an_output_of_another_shape_than_declared_is_refused(network, tmp_path, found):
    pytest.importorskip("onnxruntime")
    save(network, tmp_path / "n.onnx")
    file = onnx_file.read(tmp_path / "n.onnx")
    _, decode = Graphs().get(file)
    assert len(decode([torch.ones(1, 10, 8)], 0.1).scores)
    with pytest.raises(InputError, match=r"n\.onnx: its first output is torch\..* 8 numbers for each cell"):
        decode([found], 0.1)


def test_bfloat16_needs_a_cpu_that_has_it(monkeypatch):
    pytest.importorskip("openvino")

    class Core:
        def get_property(self, *_names: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "_core", lambda _module: Core())
    with pytest.raises(
        InputError, match=r"`engine` openvino-bf16 needs a CPU .*; `engine` openvino computes in"
    ):
        make_engine("openvino-bf16")
    make_engine("openvino")


@pytest.mark.parametrize(("name", "trait"), [("sparse-bf16", "HAS_BFLOAT16"), ("sparse-int8", "HAS_INT8")])
def test_the_sparse_engine_in_lower_precision_needs_a_cpu_that_has_it(monkeypatch, name, trait):
    pytest.importorskip("numba")
    monkeypatch.setattr(f"sparsity.sparse_engine.{trait}", False)
    with pytest.raises(InputError, match=rf"`engine` {name} needs a CPU .*; `engine` sparse computes in"):
        make_engine(name)
    make_engine("sparse")


def test_int8_needs_images(shallow, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr("sparsity.sparse_engine.HAS_INT8", True)
    with pytest.raises(InputError, match="`engine` sparse-int8 needs images"):
        make_engine("sparse-int8").prepare(shallow, CPU, torch.float32)
    images = torch.rand(2, 3, 64, 96)
    maps = make_engine("sparse-int8", [images]).prepare(shallow, CPU, torch.float32)(images)
    with torch.no_grad():
        exact = shallow(images)
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(maps, exact, strict=True)]
    assert 1e-4 < max(errors) < 0.1


@pytest.mark.parametrize("name", ["openvino-bf16", "sparse-bf16"])
def test_bfloat16_gives_nearly_the_maps_of_float32(shallow, name):
    pytest.importorskip(ENGINES[name].package)
    try:
        engine = make_engine(name)
    except InputError as error:
        pytest.skip(str(error))
    images = torch.rand(2, 3, 64, 96)
    maps = engine.prepare(shallow, CPU, torch.float32)(images)
    with torch.no_grad():
        exact = shallow(images)
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(maps, exact, strict=True)]
    assert max(errors) < 0.03
    assert min(errors) > 1e-5, "float32 would be nearer"


def test_a_row_names_the_precision_of_its_engine(shallow, shapes, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(ENGINES["onnxruntime"], "computes_in", torch.bfloat16)
    done = validate(shallow, shapes, ValidationSettings(engine="onnxruntime", imgsz=64, workers=1))
    assert done.metrics.precision == "bfloat16"
