"""Checkpoints shaped like the published ones are read; those that are not are refused with the reason."""

from __future__ import annotations

import copy
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sparsity.base.errors import InputError
from sparsity.formats import loading
from sparsity.formats.checkpoint import Checkpoint
from sparsity.formats.pt_reader import read_checkpoint
from sparsity.yolo.blocks import Conv
from sparsity.yolo.network import fuse
from sparsity.yolo.yolov5.architectures import yolov5

# fmt: off
COMMON = [
    "Conv", "DWConv", "Bottleneck", "CrossConv", "BottleneckCSP", "C3", "C3x", "C3TR", "C3SPP",
    "C3Ghost", "SPP", "SPPF", "Focus", "Concat", "Contract", "Expand", "GhostConv", "GhostBottleneck",
    "TransformerLayer", "TransformerBlock", "Classify",
]
# fmt: on
YOLO = ["Model", "DetectionModel", "Detect", "ClassificationModel", "SegmentationModel", "Segment"]
NAMES = ["person", "bicycle", "car"]
ANCHORS = torch.tensor([[1.25, 1.625], [2.0, 3.75], [4.125, 2.875]])
CONV = "model.0.conv"


def stand_in(module: str, name: str) -> type[nn.Module]:
    """A class that only holds what it is given, pickled under the published name."""

    def init(self: nn.Module, **parts: object) -> None:
        nn.Module.__init__(self)
        for key, part in parts.items():
            setattr(self, key, part)

    return type(name, (nn.Module,), {"__init__": init, "__module__": module})


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published modules, while a test runs."""
    tasks = ["SegmentationModel", "YOLOv10DetectionModel"]
    classes = {"models.common": COMMON, "models.yolo": YOLO, "ultralytics.nn.tasks": tasks}
    for parent in ("models", "ultralytics", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for module_name, names in classes.items():
        module = ModuleType(module_name)
        for name in names:
            setattr(module, name, stand_in(module_name, name))
        monkeypatch.setitem(sys.modules, module_name, module)


def make(name: str, **parts: object) -> nn.Module:
    """A published module by its class name."""
    home = sys.modules["models.common" if name in COMMON else "models.yolo"]
    return getattr(home, name)(**parts)


def conv(c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None, name: str = "Conv") -> nn.Module:
    norm = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
    nn.init.uniform_(norm.running_mean, -0.2, 0.2)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    inner = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
    return make(name, conv=inner, bn=norm, act=nn.SiLU(inplace=True))


def bottleneck(c: int, add: bool = True, name: str = "Bottleneck") -> nn.Module:
    return make(name, cv1=conv(c, c), cv2=conv(c, c, 3), add=add)


def c3(c1: int, c2: int, m: nn.Module | None = None, name: str = "C3") -> nn.Module:
    half = c2 // 2
    m = nn.Sequential(bottleneck(half)) if m is None else m
    return make(name, cv1=conv(c1, half), cv2=conv(c1, half), cv3=conv(2 * half, c2), m=m)


def csp(c: int) -> nn.Module:
    h = c // 2
    bare = {f"cv{i}": nn.Conv2d(n, h, 1, bias=False) for i, n in ((2, c), (3, h))}
    parts = {
        "bn": nn.BatchNorm2d(c),
        "act": nn.LeakyReLU(0.1, inplace=True),
        "m": nn.Sequential(bottleneck(h)),
    }
    return make("BottleneckCSP", cv1=conv(c, h), cv4=conv(c, c), **bare, **parts)


def sppf(c: int) -> nn.Module:
    return make("SPPF", cv1=conv(c, c // 2), cv2=conv(2 * c, c), m=nn.MaxPool2d(5, 1, 2))


def spp(c: int) -> nn.Module:
    pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
    return make("SPP", cv1=conv(c, c // 2), cv2=conv(2 * c, c), m=pools)


def ghost_conv(c: int) -> nn.Module:
    return make("GhostConv", cv1=conv(c, c // 2), cv2=conv(c // 2, c // 2, 5))


def ghost_bottleneck(c: int) -> nn.Module:
    inner = nn.Sequential(ghost_conv(c), nn.Identity(), ghost_conv(c))
    return make("GhostBottleneck", conv=inner, shortcut=nn.Identity())


def transformer(c: int) -> nn.Module:
    names = ("q", "k", "v", "fc1", "fc2")
    linear = {name: nn.Linear(c, c, bias=False) for name in names}
    layer = make("TransformerLayer", ma=nn.MultiheadAttention(c, 2), **linear)
    return make("TransformerBlock", conv=None, linear=nn.Linear(c, c), tr=nn.Sequential(layer), c2=c)


def detect(channels: tuple[int, ...], strides: tuple[int, ...], nc: int = 3) -> nn.Module:
    maps = nn.ModuleList(nn.Conv2d(c, 3 * (5 + nc), 1) for c in channels)
    head = make("Detect", nc=nc, no=5 + nc, nl=len(channels), na=3, m=maps, inplace=True)
    head.register_buffer("anchors", torch.stack([ANCHORS * (i + 1) for i in range(len(channels))]))
    head.stride = torch.tensor(strides, dtype=torch.float32)
    head.grid = [torch.zeros(1)] * len(channels)
    head.anchor_grid = [torch.zeros(1)] * len(channels)
    return head


Routed = tuple[nn.Module, Any]


def model(layers: list[Routed], names: object, name: str = "DetectionModel") -> nn.Module:
    """The whole, as a training run would hold it."""
    for index, (layer, source) in enumerate(layers):
        layer.i, layer.f, layer.type = index, source, type(layer).__qualname__
        layer.np = sum(p.numel() for p in layer.parameters())
    whole = make(name, model=nn.Sequential(*(layer for layer, _ in layers)), names=names, nc=3, save=[4])
    whole.yaml = {"nc": 3, "anchors": [[10, 13]], "backbone": [[-1, 1, "Conv", [64, 6, 2, 2]]]}
    whole.stride = layers[-1][0].stride
    return whole.eval()


def v6_model() -> nn.Module:
    """Two raw maps, strides 8 and 16, with every way to route."""
    layers: list[Routed] = [
        (conv(3, 8, 6, 2, 2), -1),
        (conv(8, 8, 3, 2), -1),
        (c3(8, 8), -1),
        (conv(8, 8, 3, 2), -1),
        (conv(8, 16, 3, 2), -1),
        (sppf(16), -1),
        (nn.Upsample(None, 2, "nearest"), -1),
        (make("Concat", d=1), [-1, 3]),
        (c3(24, 8, nn.Sequential(bottleneck(4, add=False))), -1),
        (detect((8, 16), (8, 16)), [8, 5]),
    ]
    return model(layers, dict(enumerate(NAMES)))


def v5_model() -> nn.Module:
    """Focus, SPP, names as a list, an old Upsample, and the anchor grid as a buffer."""
    upsample = nn.Upsample(None, 2, "nearest")
    del upsample.recompute_scale_factor
    head = detect((16, 8), (16, 8))
    del head.anchor_grid
    head.register_buffer("anchor_grid", torch.zeros(2, 1, 3, 1, 1, 2))
    layers: list[Routed] = [
        (make("Focus", conv=conv(12, 8, 3)), -1),
        (conv(8, 8, 3, 2), -1),
        (conv(8, 8, 3, 2), -1),
        (conv(8, 16, 3, 2), -1),
        (spp(16), -1),
        (csp(16), -1),
        (upsample, -1),
        (make("Concat", d=1), [-1, 2]),
        (conv(24, 8), -1),
        (head, [5, 8]),
    ]
    return model(layers, list(NAMES), "Model")


def p6_model() -> nn.Module:
    stem: list[Routed] = [(conv(8 if i else 3, 8, 3, 2), -1) for i in range(6)]
    return model([*stem, (detect((8,) * 4, (8, 16, 32, 64)), [2, 3, 4, 5])], dict(enumerate(NAMES)))


def fused_model() -> nn.Module:
    """Every norm folded into its convolution, and deleted."""
    whole = v6_model()
    for module in whole.modules():
        if hasattr(module, "bn"):
            module.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(module.conv, module.bn)
            del module.bn
    return whole


def save(path: Path, whole: object, **root: object) -> Path:
    stock = {"epoch": -1, "best_fitness": None, "model": whole, "ema": None, "updates": None}
    torch.save({**stock, "optimizer": None, "wandb_id": None, "date": "2024-01-01T00:00:00", **root}, path)
    return path


def state(whole: nn.Module) -> dict[str, Tensor]:
    """The weights that reading should give."""
    return {k: v.float() if v.is_floating_point() else v for k, v in whole.state_dict().items()}


def assert_holds(read: Checkpoint, expected: dict[str, Tensor]) -> None:
    assert read.weights.keys() == expected.keys()
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in expected.items())
    assert all(t.dtype == torch.float32 for t in read.weights.values() if t.is_floating_point())


# --- what is read ----------------------------------------------------------------------------------

MODELS = [
    pytest.param(v6_model, (8, 16), id="v6.2 on"),
    pytest.param(v5_model, (16, 8), id="v5"),
    pytest.param(p6_model, (8, 16, 32, 64), id="P6"),
    pytest.param(fused_model, (8, 16), id="fused"),
]
Maker = Callable[[], nn.Module]


@pytest.mark.parametrize("half", [pytest.param(True, id="half"), pytest.param(False, id="float")])
@pytest.mark.parametrize(("maker", "strides"), MODELS)
def test_a_checkpoint_is_read_whole(
    tmp_path: Path, maker: Maker, strides: tuple[int, ...], half: bool
) -> None:
    whole = maker().half() if half else maker()
    path = save(tmp_path / "a.pt", whole)
    read = read_checkpoint(path)
    expected = {k: v for k, v in state(whole).items() if "anchor_grid" not in k}
    assert_holds(read, expected)
    assert read.path == path
    assert read.names == tuple(NAMES)
    assert read.architecture[-1].module.attributes == {"nc": 3, "na": 3, "strides": strides}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("maker", "strides"), MODELS)
def test_a_checkpoint_runs(tmp_path: Path, maker: Maker, strides: tuple[int, ...], fused: bool) -> None:
    network = loading.load(str(save(tmp_path / "a.pt", maker().half())), fused=fused)
    raw = network(torch.rand(1, 3, 128, 64))
    assert [tuple(x.shape) for x in raw] == [(1, 24, 128 // s, 64 // s) for s in strides]
    assert network.strides == strides
    assert not network.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    norms = [m for m in network.modules() if isinstance(m, Conv) and m.bn is not None]
    assert bool(norms) == (not fused and maker is not fused_model)


@pytest.mark.parametrize("maker", [v6_model, v5_model])
def test_fusing_on_load_keeps_the_outputs(tmp_path: Path, maker: Maker) -> None:
    path = save(tmp_path / "a.pt", maker())
    images = torch.rand(1, 3, 64, 64)
    plain, fused = loading.load(path, fused=False)(images), loading.load(path)(images)
    for expected, found in zip(plain, fused, strict=True):
        assert expected.std() > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_routes_and_kinds_are_read(tmp_path: Path) -> None:
    architecture = read_checkpoint(save(tmp_path / "a.pt", v6_model())).architecture
    assert [layer.module.kind for layer in architecture] == (
        ["Conv", "Conv", "C3", "Conv", "Conv", "SPPF", "Upsample", "Concat", "C3", "Detect"]
    )
    assert [layer.sources for layer in architecture[6:]] == [(-1,), (-1, 3), (-1,), (8, 5)]
    first = architecture[0].module.children["conv"].attributes
    assert (first["kernel_size"], first["stride"], first["padding"]) == ((6, 6), (2, 2), (2, 2))
    assert first["bias"] is False
    shortcuts = [architecture[i].module.children["m"].children["0"].attributes["add"] for i in (2, 8)]
    assert shortcuts == [True, False]


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(lambda: conv(8, 8, 3, name="DWConv"), id="DWConv"),
        pytest.param(lambda: bottleneck(8, name="CrossConv"), id="CrossConv"),
        pytest.param(lambda: csp(8), id="BottleneckCSP"),
        pytest.param(lambda: spp(8), id="SPP"),
        pytest.param(lambda: c3(8, 8, nn.Sequential(bottleneck(4, name="CrossConv")), "C3x"), id="C3x"),
        pytest.param(lambda: c3(8, 8, transformer(4), "C3TR"), id="C3TR"),
        pytest.param(lambda: c3(8, 8, spp(4), "C3SPP"), id="C3SPP"),
        pytest.param(lambda: c3(8, 8, nn.Sequential(ghost_bottleneck(4)), "C3Ghost"), id="C3Ghost"),
        pytest.param(lambda: ghost_conv(8), id="GhostConv"),
        pytest.param(lambda: ghost_bottleneck(8), id="GhostBottleneck"),
        pytest.param(
            lambda: nn.Sequential(make("Contract", gain=2), conv(32, 32), make("Expand", gain=2)),
            id="Contract and Expand",
        ),
        pytest.param(lambda: make("Conv", conv=nn.Conv2d(8, 8, 1), act=nn.Hardswish()), id="Hardswish"),
        pytest.param(lambda: nn.Sequential(nn.ReLU(), nn.LeakyReLU(0.2), nn.Identity()), id="torch's own"),
    ],
)
def test_every_published_block_is_read_and_runs(tmp_path: Path, layer: Maker) -> None:
    stem: list[Routed] = [(conv(3, 8, 3, 8), -1), (layer(), -1)]
    whole = model([*stem, (detect((8,), (8,)), [1])], list(NAMES))
    path = save(tmp_path / "a.pt", whole)
    assert_holds(read_checkpoint(path), state(whole))
    assert loading.load(path)(torch.rand(1, 3, 32, 32))[0].shape == (1, 24, 4, 4)


def test_ema_is_preferred(tmp_path: Path) -> None:
    plain, averaged = v6_model(), v6_model()
    read = read_checkpoint(save(tmp_path / "a.pt", plain, ema=averaged, updates=7))
    assert not torch.equal(plain.model[0].conv.weight, averaged.model[0].conv.weight)
    assert_holds(read, state(averaged))


def optimizer_state(whole: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.01, momentum=0.9)
    sum(p.sum() for p in whole.parameters()).backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "root",
    [
        pytest.param({"best_fitness": np.array([0.25])}, id="fitness: a numpy array"),
        pytest.param({"best_fitness": np.float64(0.25)}, id="fitness: a numpy scalar"),
        pytest.param({"opt": {"save_dir": Path("runs/train"), "lr": 0.01}}, id="a path among the options"),
        pytest.param({"opt": Namespace(weights="a.pt", hyp={"lr0": 0.01})}, id="options: a Namespace"),
        pytest.param({"git": {"remote": "https://x", "branch": None}}, id="git"),
        pytest.param({"epoch": 3, "updates": 50}, id="counters"),
    ],
)
def test_what_training_keeps_beside_the_model_is_let_pass(tmp_path: Path, root: dict[str, object]) -> None:
    whole = v6_model()
    assert_holds(read_checkpoint(save(tmp_path / "a.pt", whole, **root)), state(whole))


def test_a_checkpoint_from_the_midst_of_training_is_read(tmp_path: Path) -> None:
    whole, averaged = v6_model(), v6_model()
    optimizer = optimizer_state(whole)
    assert optimizer["state"]
    path = save(tmp_path / "a.pt", whole.train(), ema=averaged, optimizer=optimizer)
    assert_holds(read_checkpoint(path), state(averaged))


def bound(name: str) -> Callable[[nn.Module], object]:
    """A method by that name, which pickles as getattr(self, name)."""

    def method(self: nn.Module, x: Tensor) -> Tensor:
        return self.act(self.conv(x))

    method.__name__ = name
    return method


@pytest.mark.parametrize("name", ["forward_fuse", "fuseforward"])
def test_a_model_that_was_fused_and_saved_is_read(tmp_path: Path, name: str) -> None:
    """Fusing binds another method of Conv as its forward."""
    whole = fused_model()
    kind = sys.modules["models.common"].Conv
    setattr(kind, name, bound(name))
    for module in whole.modules():
        if isinstance(module, kind):
            module.forward = getattr(module, name)
    assert_holds(read_checkpoint(save(tmp_path / "a.pt", whole)), state(whole))


def test_a_forward_without_the_norm_is_refused_where_there_is_a_norm(tmp_path: Path) -> None:
    whole = v6_model()
    kind = sys.modules["models.common"].Conv
    kind.forward_fuse = bound("forward_fuse")
    whole.model[0].forward = whole.model[0].forward_fuse
    assert "model.0 (Conv) has an attribute 'forward'" in refusal(save(tmp_path / "a.pt", whole))


@pytest.mark.parametrize("half", [True, False])
def test_masks_that_were_left_are_applied(tmp_path: Path, half: bool) -> None:
    """The head has a bias with a mask, too."""
    whole = v6_model().half() if half else v6_model()
    pruned = copy.deepcopy(whole)
    for name, parameter in ((CONV, "weight"), ("model.9.m.0", "weight"), ("model.9.m.0", "bias")):
        prune.l1_unstructured(pruned.get_submodule(name), parameter, 0.3)
    read = read_checkpoint(save(tmp_path / "a.pt", pruned))
    for name, parameter in ((CONV, "weight"), ("model.9.m.0", "weight"), ("model.9.m.0", "bias")):
        prune.remove(pruned.get_submodule(name), parameter)
    assert_holds(read, state(pruned))
    weight = read.weights[f"{CONV}.weight"]
    assert (weight == 0).sum() == round(0.3 * weight.numel())
    assert loading.load(tmp_path / "a.pt").get_submodule("model.9.m.0").bias.count_nonzero() < 24


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    whole = v6_model()
    prune.l1_unstructured(whole.get_submodule(CONV), "weight", 0.3)
    whole.get_submodule(CONV).register_buffer("weight_mask", torch.ones(2))
    assert f"{CONV}.weight is of another shape than its mask" in refusal(save(tmp_path / "a.pt", whole))


def test_synchronised_batch_norms_are_batch_norms(tmp_path: Path) -> None:
    whole = nn.SyncBatchNorm.convert_sync_batchnorm(v6_model())
    read = read_checkpoint(save(tmp_path / "a.pt", whole))
    assert_holds(read, state(whole))
    assert read.architecture == read_checkpoint(save(tmp_path / "b.pt", v6_model())).architecture


def test_an_upsample_that_a_newer_torch_has_saved_again_is_read(tmp_path: Path) -> None:
    """Torch 1.11 on sets recompute_scale_factor where an old file has none."""
    whole = v6_model()
    whole.model[6].recompute_scale_factor = True
    assert_holds(read_checkpoint(save(tmp_path / "a.pt", whole)), state(whole))


def test_a_file_of_torch_before_1_6_is_read(tmp_path: Path) -> None:
    whole = v5_model().half()
    torch.save({"model": whole}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    expected = {k: v for k, v in state(whole).items() if "anchor_grid" not in k}
    assert_holds(read_checkpoint(tmp_path / "a.pt"), expected)


@pytest.mark.parametrize(
    "ema", [{"0.weight": torch.zeros(2)}, nn.Dropout(0.1), 3], ids=["weights", "module", "3"]
)
def test_an_ema_that_is_no_network_is_passed_over(tmp_path: Path, ema: object) -> None:
    whole = v6_model()
    assert_holds(read_checkpoint(save(tmp_path / "a.pt", whole, ema=ema)), state(whole))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param({0: "a", 1: "b", 9: "c"}, ("a", "b", "class2"), id="a gap at the end"),
        pytest.param({0: "a", 2: "b", 3: "c"}, ("a", "class1", "b"), id="a gap amid them"),
        pytest.param({1: "a", 2: "b", 3: "c"}, ("class0", "a", "b"), id="from 1 on"),
    ],
)
def test_names_with_gaps_are_taken_by_index(tmp_path: Path, names: dict[int, str], expected: tuple) -> None:
    """YOLOv5 looks a name up by its index, and only counts the names."""
    whole = v6_model()
    whole.names = names
    assert read_checkpoint(save(tmp_path / "a.pt", whole)).names == expected


def test_the_pip_packages_class_paths_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package yolov5 has YOLOv5's modules as yolov5.models."""
    for name in ("yolov5", "yolov5.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ("models.common", "models.yolo"):
        monkeypatch.setitem(sys.modules, f"yolov5.{name}", sys.modules[name])
        for kind in vars(sys.modules[name]).values():
            if isinstance(kind, type):
                monkeypatch.setattr(kind, "__module__", f"yolov5.{name}")
    whole = v6_model()
    path = save(tmp_path / "a.pt", whole)
    assert b"yolov5.models.yolo" in path.read_bytes()
    assert_holds(read_checkpoint(path), state(whole))


def test_a_network_that_would_take_for_ever_is_refused(tmp_path: Path) -> None:
    """64 x 64 upsampling of each cell, in a file of a few kilobytes."""
    stem: list[Routed] = [(conv(3, 8, 3, 1), -1), (nn.Upsample(None, 64, "nearest"), -1)]
    whole = model([*stem, (nn.MaxPool2d(64, 64), -1), (detect((8,), (1,)), [2])], list(NAMES))
    assert "multiplications" in refusal(save(tmp_path / "a.pt", whole))


# --- what is refused -------------------------------------------------------------------------------


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in whoever takes longer: a test that would hang fails."""

    def late(*_: object) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refusal(path: Path) -> str:
    """The message with which path is refused, checked for what every refusal must be."""
    with time_limit(4), pytest.raises(InputError) as caught:
        loading.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


Change = Callable[[nn.Module], object]


def setting(where: str, name: str, value: object) -> Change:
    """A change that stores value as an attribute, past what nn.Module would check."""
    return lambda whole: whole.get_submodule(where).__dict__.__setitem__(name, value)


def replacing(where: str, module: Callable[[], nn.Module]) -> Change:
    parent, _, child = where.rpartition(".")
    return lambda whole: whole.get_submodule(parent)._modules.__setitem__(child, module())


def drop(where: str, group: str, name: str) -> Change:
    return lambda whole: getattr(whole.get_submodule(where), group).pop(name)


def add_buffer(whole: nn.Module) -> None:
    whole.model[1].register_buffer("extra", torch.zeros(2))


def shrink(whole: nn.Module) -> None:
    whole.model[0].conv.weight = nn.Parameter(torch.zeros(8, 3, 5, 5))


def imaginary(whole: nn.Module) -> None:
    conv = whole.model[0].conv
    conv._parameters["weight"] = conv.weight.detach().to(torch.complex64)


def contain_itself(whole: nn.Module) -> None:
    whole.model[2].m._modules["0"] = whole.model[2]


def share_without_end(whole: nn.Module) -> None:
    shared: nn.Module = nn.Identity()
    for _ in range(40):
        shared = nn.Sequential(shared, shared)
    whole.model._modules["2"] = shared


def share_weights_without_end(whole: nn.Module) -> None:
    """4,096 names for one weight: 256 MB out of a file of a few hundred KB."""
    shared: nn.Module = nn.Conv2d(128, 128, 1, bias=False)
    for _ in range(12):
        shared = nn.Sequential(shared, shared)
    whole.model._modules["2"] = shared


def own_list() -> list:
    own: list = []
    own.append(own)
    return own


def doubled(times: int) -> tuple:
    value: tuple = ()
    for _ in range(times):
        value = (value, value)
    return value


CHANGES = [
    pytest.param(setting("", "names", ["a", "b"]), "2 class names, but its head has 3", id="a name short"),
    pytest.param(setting("", "names", list("abcd")), "4 class names", id="a name too many"),
    pytest.param(setting("", "names", {1: "a", 2: "b"}), "class names", id="names from 1 on"),
    pytest.param(setting("", "names", {"0": "a", "1": "b", "2": "c"}), "class names", id="words for indices"),
    pytest.param(setting("", "names", [None, "a", "b"]), "class names", id="names are nothing"),
    pytest.param(setting("", "names", None), "class names", id="no names"),
    pytest.param(drop(CONV, "_parameters", "weight"), "model.0.conv.weight", id="a weight is missing"),
    pytest.param(drop("model.0.bn", "_buffers", "running_var"), "model.0.bn.running_var", id="a buffer is"),
    pytest.param(drop("model.9", "_buffers", "anchors"), "model.9.anchors", id="the anchors are"),
    pytest.param(drop("model.2", "_modules", "cv3"), "cv3", id="a module is"),
    pytest.param(add_buffer, "model.1.extra", id="a weight is left over"),
    pytest.param(imaginary, "model.0.conv.weight is of torch.complex64; a real", id="complex weights"),
    pytest.param(shrink, "size mismatch for model.0.conv.weight", id="a weight of another shape"),
    pytest.param(replacing("model.2.m.0", lambda: nn.Dropout(0.1)), "Dropout", id="an unknown module"),
    pytest.param(replacing("model.9", nn.Identity), "last layer is Identity", id="no Detect"),
    pytest.param(replacing("model", nn.Identity), "no layers", id="no Sequential"),
    pytest.param(replacing("model.0.conv", nn.Identity), "Identity", id="a Conv without a convolution"),
    pytest.param(replacing("model.0.bn", nn.Identity), "Identity", id="a Conv whose norm is none"),
    pytest.param(drop("model", "_modules", "4"), "numbered", id="a layer is missing"),
    pytest.param(drop(CONV, "__dict__", "stride"), "stride", id="an attribute is"),
    pytest.param(setting(CONV, "stride", own_list()), "model.0.conv.stride", id="a list in itself"),
    pytest.param(setting(CONV, "stride", doubled(60)), "model.0.conv.stride", id="a tuple doubled 60 times"),
    pytest.param(setting(CONV, "stride", {}), "model.0.conv.stride", id="a dict for a number"),
    pytest.param(setting(CONV, "groups", 0), "groups", id="no groups"),
    pytest.param(setting(CONV, "out_channels", 2**70), "over 63 bits; a whole", id="channels over 64 bits"),
    pytest.param(setting(CONV, "out_channels", -8), "is -8; a whole number", id="negative channels"),
    pytest.param(setting(CONV, "stride", (0, 0)), "stride is (0, 0); a whole number from 1", id="stride 0"),
    pytest.param(setting(CONV, "stride", "2"), "stride is '2'; a whole number from 1", id="a stride of text"),
    pytest.param(setting(CONV, "stride", (2**62, 2)), "a whole number from 1 to 256", id="a huge stride"),
    pytest.param(setting(CONV, "padding", (2**15, 0)), "padding is (32768, 0)", id="a huge padding"),
    pytest.param(setting("model.0.bn", "eps", "x"), "eps is 'x'; a number from 0", id="eps of text"),
    pytest.param(setting("model.6", "scale_factor", [2.0, 2.0, 2.0]), "scale_factor is", id="three factors"),
    pytest.param(setting("model.6", "scale_factor", 1.5), "scale_factor is 1.5; a whole", id="half cells"),
    pytest.param(setting("model.6", "mode", "x"), "mode is 'x'; one of nearest", id="an unknown mode"),
    pytest.param(setting("model.7", "d", 2), "do not fit together: layer", id="joined along the height"),
    pytest.param(setting("model.7", "f", [-1, 1]), "do not fit together: layer 7", id="maps of two sizes"),
    pytest.param(setting("model.8", "f", 2), "do not fit together: layer 8", id="channels of another layer"),
    pytest.param(setting("model.9", "f", [8]), "do not fit together: layer 9", id="a map too few"),
    pytest.param(setting("model.9", "stride", torch.tensor([8.0, 32])), "strides 8, 16", id="another stride"),
    pytest.param(setting("model.2.m.0", "forward", sum), "'forward' that is not", id="another forward"),
    pytest.param(
        setting("model.2.cv1", "_forward_hooks", {1: nn.Identity()}), "model.2.cv1 has a hook", id="a hook"
    ),
    pytest.param(
        replacing("model.2.m.0", lambda: nn.Dropout(0.1)),
        "refused: it names torch.nn.modules.dropout.Dropout as model.2.m.0, which no detection",
        id="an unknown module, by name",
    ),
    pytest.param(setting(CONV, "_parameters", [1]), "model.0.conv", id="parameters in a list"),
    pytest.param(setting(CONV, "_modules", {1: nn.SiLU()}), "without a name", id="a nameless child"),
    pytest.param(setting(CONV, "_non_persistent_buffers_set", 1), "model.0.conv", id="set is a number"),
    pytest.param(setting("model.9", "nc", "three"), "nc", id="classes: a word"),
    pytest.param(setting("model.9", "nc", None), "nc", id="classes: none"),
    pytest.param(setting("model.9", "stride", None), "stride", id="no strides"),
    pytest.param(
        setting("model.9", "stride", torch.tensor([8, 16j])), "no stride (a tensor", id="strides of i"
    ),
    pytest.param(
        setting("model.9", "_buffers", {1: torch.zeros(2)}), "a weight without a name", id="a number"
    ),
    pytest.param(replacing("model.8", lambda: detect((8,), (8,))), "layer 8 cannot run", id="two heads"),
    pytest.param(setting("model.9", "stride", torch.tensor([8.5, 16])), "strides", id="a broken stride"),
    pytest.param(setting("model.9", "stride", torch.tensor([8.0, 0])), "strides", id="a stride of 0"),
    pytest.param(setting("model.9", "stride", torch.tensor([8.0])), "stride", id="fewer strides than maps"),
    pytest.param(
        replacing("model.9.m.0", lambda: nn.Conv2d(8, 21, 1)), "model.9", id="a head of another width"
    ),
    pytest.param(setting("model.2", "f", 7), "layer 2 takes its input from 7", id="input from a later layer"),
    pytest.param(setting("model.2", "f", -4), "layer 2 takes its input from -4", id="from before the image"),
    pytest.param(setting("model.2", "f", "x"), "layer 2 takes its input from 'x'", id="from a word"),
    pytest.param(setting("model.2", "f", []), "layer 2 takes its input from", id="from nowhere"),
    pytest.param(setting("model.2", "f", "x\n" * 10**5), "layer 2 takes its input", id="from a long word"),
    pytest.param(contain_itself, "nested without end", id="a module in itself"),
    pytest.param(share_without_end, "nested without end", id="a module shared 2^40 times"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_model_that_does_not_hold_together_is_refused(tmp_path: Path, change: Change, words: str) -> None:
    whole = v6_model()
    change(whole)
    assert words in refusal(save(tmp_path / "a.pt", whole))


def test_a_weight_shared_4096_times_is_refused(tmp_path: Path) -> None:
    whole = v6_model()
    share_weights_without_end(whole)
    path = save(tmp_path / "a.pt", whole)
    assert path.stat().st_size < 2**20
    refusal(path)


def test_heads_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    block = transformer(4)
    block.tr[0].ma.num_heads = 3
    stem: list[Routed] = [(conv(3, 8, 3, 8), -1), (c3(8, 8, block, "C3TR"), -1)]
    path = save(tmp_path / "a.pt", model([*stem, (detect((8,), (8,)), [1])], list(NAMES)))
    assert "num_heads" in refusal(path)


@pytest.mark.parametrize(
    ("root", "words"),
    [
        pytest.param({}, "nothing", id="an empty dict"),
        pytest.param({"model.0.conv.weight": torch.zeros(2)}, "a bare state dict", id="a state dict"),
        pytest.param({"model": {"0.weight": torch.zeros(2)}}, "a bare state dict", id="one in model"),
        pytest.param({"state_dict": {}, "epoch": 3}, "state_dict, epoch", id="another trainer's"),
        pytest.param({"model": None, "ema": None}, "'ema' or 'model'", id="no model"),
        pytest.param({"model": nn.Sequential()}, "detection model", id="another module"),
        pytest.param(torch.zeros(2), "dict at its root", id="a tensor"),
        pytest.param({"a\nb\x1b[2J": 1}, "no detection model of YOLOv5", id="a key of two lines"),
        pytest.param({"a" * 10**5: 1}, "no detection model of YOLOv5", id="a long key"),
    ],
)
def test_another_root_is_refused(tmp_path: Path, root: object, words: str) -> None:
    path = tmp_path / "a.pt"
    torch.save(root, path)
    assert words in refusal(path)


def test_the_state_dict_of_a_model_is_refused(tmp_path: Path) -> None:
    """With the attributes that a real one carries."""
    path = tmp_path / "a.pt"
    torch.save(v6_model().state_dict(), path)
    assert "a bare state dict" in refusal(path)


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        pytest.param("models.yolo", "ClassificationModel", "YOLOv5 classification", id="classification"),
        pytest.param("models.yolo", "SegmentationModel", "YOLOv5 segmentation", id="segmentation"),
        pytest.param("models.yolo", "Segment", "YOLOv5 segmentation", id="a segmentation head"),
        pytest.param("models.common", "Classify", "YOLOv5 classification", id="a classification head"),
        pytest.param("ultralytics.nn.tasks", "SegmentationModel", "YOLOv8", id="YOLOv8's"),
        pytest.param("ultralytics.nn.tasks", "YOLOv10DetectionModel", "YOLOv10", id="a third family"),
    ],
)
def test_a_checkpoint_of_another_task_is_named(tmp_path: Path, module: str, name: str, words: str) -> None:
    other = getattr(sys.modules[module], name)(model=nn.Sequential())
    message = refusal(save(tmp_path / "a.pt", other))
    assert f"{module}.{name}" in message
    assert words in message
    assert "a detection checkpoint of YOLOv5" in message


# --- the real thing --------------------------------------------------------------------------------


@pytest.fixture
def assets() -> Path:
    folder = os.environ.get("SPARSITY_ASSETS")
    if not folder or not (Path(folder) / "yolov5n.pt").is_file():
        pytest.skip("SPARSITY_ASSETS names no folder with yolov5n.pt")
    return Path(folder)


@pytest.mark.assets
def test_the_published_yolov5n_is_the_architecture_as_data(assets: Path) -> None:
    read = read_checkpoint(assets / "yolov5n.pt")
    assert read.architecture == yolov5("yolov5n")
    assert len(read.names) == 80
    assert (read.names[0], read.names[-1]) == ("person", "toothbrush")


@pytest.mark.assets
def test_the_published_yolov5n_has_its_parameters(assets: Path) -> None:
    network = loading.load(assets / "yolov5n.pt", fused=False)
    assert sum(p.numel() for p in network.parameters()) == 1_872_157
    assert sum(p.numel() for p in fuse(network).parameters()) == 1_867_405


@pytest.mark.assets
def test_the_published_anchors_are_in_units_of_stride(assets: Path) -> None:
    head = loading.load(assets / "yolov5n.pt").head
    pixels = head.anchors * torch.tensor(head.strides)[:, None, None]
    assert pixels[0].tolist() == [[10, 13], [16, 30], [33, 23]]
    assert pixels[2].tolist() == [[116, 90], [156, 198], [373, 326]]
