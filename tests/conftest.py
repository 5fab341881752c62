"""What tests share: the real files, where there are any, and small networks."""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from torch import nn

from sparsity.commands import opening
from sparsity.commands.running import run_command
from sparsity.formats.saving import save
from sparsity.pruning import curves
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.parts import conv, layer
from sparsity.yolo.spec import Layer, ModuleSpec
from sparsity.yolo.yolo11.architectures import c2psa, light_detect
from sparsity.yolo.yolo12.architectures import attending
from sparsity.yolo.yolo26 import architectures as yolo26_architectures
from sparsity.yolo.yolo26.architectures import two_branch_detect
from sparsity.yolo.yolov5 import architectures
from sparsity.yolo.yolov5.architectures import yolov5
from sparsity.yolo.yolov8 import architectures as yolov8_architectures


def pytest_configure() -> None:
    """Share the cores out among the processes that run tests side by side, and what they start."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    threads = max(1, torch.get_num_threads() // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that at the end no process waits for the other's."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real checkpoints and images, by SPARSITY_ASSETS."""
    folder = os.environ.get("SPARSITY_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SPARSITY_ASSETS names no folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def _cache_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory) -> Path:
    """The cache folder with the sparse engine's machine code, the same for all processes of a session."""
    folder = tmp_path_factory.getbasetemp().parent / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _kernels_compiled_once(compiled_kernels) -> Iterator[None]:
    """Let one of the processes compile the sparse engine's kernels, and the others read its machine code."""
    if find_spec("numba") is None:
        yield
        return
    build = import_module("sparsity.sparse_engine.build")
    compile_or_read, folder = build._load.__wrapped__, compiled_kernels

    @cache
    def load(arena: type) -> Callable[..., None]:
        with FileLock(folder / "lock"), mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder)):
            return compile_or_read(arena)

    load.__wrapped__ = compile_or_read
    with mock.patch.object(build, "_load", load):
        yield


@pytest.fixture
def network() -> Network:
    """A fused yolov5n of three classes with random weights that finds something."""
    torch.manual_seed(0)
    network = build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))
    network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]]).expand(3, 3, 2))
    return fuse(network).requires_grad_(False)


@pytest.fixture
def tiny(monkeypatch) -> Network:
    """As network, but narrow, and measured roughly: methods that solve for weights take a second."""
    monkeypatch.setattr(curves, "SUPPORT_STEPS", 3)
    monkeypatch.setattr(curves, "REFIT_STEPS", 2)
    monkeypatch.setitem(architectures.SCALES, "tiny", architectures.Scale(0.33, 1 / 16))
    torch.manual_seed(0)
    network = build(yolov5("tiny", nc=3), ("cat", "dog", "bird"))
    network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]]).expand(3, 3, 2))
    return fuse(network).requires_grad_(False)


@pytest.fixture
def tiny_yolov8(monkeypatch) -> Network:
    """A fused, narrow yolov8n of three classes with random weights that finds something."""
    monkeypatch.setattr(curves, "SUPPORT_STEPS", 3)
    monkeypatch.setattr(curves, "REFIT_STEPS", 2)
    return fuse(_tiny_yolov8(monkeypatch)).requires_grad_(False)


@pytest.fixture
def unfused_yolov8(monkeypatch) -> Network:
    """As tiny_yolov8, with batch norms whose statistics and weights are far from the identity."""
    network = _tiny_yolov8(monkeypatch)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.1, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.requires_grad_(False)


def _tiny_yolov8(monkeypatch) -> Network:
    scale = yolov8_architectures.Scale(0.33, 1 / 16, 1024)
    monkeypatch.setitem(yolov8_architectures.SCALES, "tiny8", scale)
    torch.manual_seed(0)
    return build(yolov8_architectures.yolov8("tiny8", nc=3), ("cat", "dog", "bird"))


@pytest.fixture
def tiny_yolo26(monkeypatch) -> Network:
    """A fused, narrow yolo26n of three classes with random weights and both branches of its head."""
    scale = yolov8_architectures.Scale(0.5, 1 / 16, 1024)
    monkeypatch.setitem(yolo26_architectures.SCALES, "tiny26", scale)
    torch.manual_seed(0)
    network = build(yolo26_architectures.yolo26("tiny26", nc=3), ("cat", "dog", "bird"))
    return fuse(network).requires_grad_(False)


@pytest.fixture
def shallow(shallow_unfused) -> Network:
    """As tiny, but the first seven layers alone and a head of one level: exported in seconds."""
    return fuse(shallow_unfused)


@pytest.fixture
def shallow_unfused(tiny) -> Network:
    """The shallow network before its batch norms are folded in."""
    layers = tiny.architecture[:7]
    head = tiny.architecture[-1].module
    width = layers[6].module.children["cv3"].children["conv"].attributes["out_channels"]
    conv = replace(
        head.children["m"].children["0"],
        attributes=head.children["m"].children["0"].attributes | {"in_channels": width},
    )
    only = ModuleSpec(
        "Detect", head.attributes | {"strides": (16,)}, {"m": ModuleSpec("ModuleList", children={"0": conv})}
    )
    torch.manual_seed(1)
    network = build((*layers, Layer(only, (6,))), tiny.names)
    network.head.anchors.copy_(tiny.head.anchors[:1])
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 3  # so that what it finds differs from place to place
    return network.requires_grad_(False)


@pytest.fixture
def two_heads_unfused(tiny) -> Network:
    """As tiny, without the map of stride 32: the backbone goes deeper than the head. With its batch norms."""
    head = tiny.architecture[-1].module
    maps = replace(head.children["m"], children={n: head.children["m"].children[n] for n in "01"})
    two = replace(head, attributes=head.attributes | {"strides": (8, 16)}, children={"m": maps})
    torch.manual_seed(1)
    network = build((*tiny.architecture[:21], Layer(two, (17, 20))), tiny.names)
    network.head.anchors.copy_(tiny.head.anchors[:2])
    return network.requires_grad_(False)


@pytest.fixture
def two_heads(two_heads_unfused) -> Network:
    """The network of two maps, fused."""
    return fuse(two_heads_unfused)


@pytest.fixture
def slight(slight_unfused) -> Network:
    """Three convolutions and a head of one level, fused: soon pruned, measured and saved; AP is above 0."""
    return fuse(copy.deepcopy(slight_unfused)).requires_grad_(False)


@pytest.fixture
def slight_unfused() -> Network:
    """The slight network before its batch norms are folded in."""
    width = 16
    head = architectures._detect((width,), 3)
    head = replace(head, attributes=head.attributes | {"strides": (8,)})
    layers = (conv(3, 8, 6, 2, 2), conv(8, width, 3, 2), conv(width, width, 3, 2), head)
    torch.manual_seed(7)
    network = build(tuple(map(layer, layers)), ("cat", "dog", "bird"))
    network.head.anchors.copy_(torch.tensor([[2.0, 3.0], [3.0, 2.0], [3.0, 3.0]])[None])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 2  # so that what it finds differs from place to place
    return network


@pytest.fixture
def few_layers() -> Callable[..., Network]:
    """Makes a network of seven layers, batch norms and all: three levels, to be trained in no time.

    names: of the classes. family: yolov5, yolov8, yolo11, yolo12 or yolo26; the last three have attention and
    depthwise layers, and a yolo26 has both branches of its head. seed: of the weights.
    """
    return _few_layers


def _few_layers(
    names: tuple[str, ...] = ("cat", "dog", "bird"), family: str = "yolov5", seed: int = 0
) -> Network:
    block, detect = {
        "yolov5": (architectures.c3(32, 32, 1), architectures._detect),
        "yolov8": (yolov8_architectures.c2f(32, 32, 1), yolov8_architectures.detect),
        "yolo11": (c2psa(32, 1), light_detect),
        "yolo12": (attending(64, 1, 4, True), light_detect),
        "yolo26": (c2psa(32, 1), two_branch_detect),
    }[family]
    width = 64 if family == "yolo12" else 32
    layers = (
        layer(conv(3, 16, 6, 2, 2)),
        layer(conv(16, 16, 3, 2)),
        layer(conv(16, width, 3, 2)),
        layer(block),
        layer(conv(width, 32, 3, 2)),
        layer(conv(32, 32, 3, 2)),
        layer(detect((width, 32, 32), len(names)), 3, 4, 5),
    )
    torch.manual_seed(seed)
    network = build(layers, names)
    if family == "yolov5":
        anchors = torch.tensor([[2.0, 3.0], [4.0, 4.0], [8.0, 6.0]])
        network.head.anchors.copy_(anchors.expand(3, 3, 2))
    return network


@pytest.fixture
def shapes(tmp_path) -> Path:
    """Six images, wide and tall, with labels of three classes; names in a yaml."""
    rng = np.random.default_rng(0)
    root = tmp_path / "shapes"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(6):
        height, width = (48, 64) if i % 2 else (64, 40)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), pixels)
        (root / "labels" / f"{i}.txt").write_text(f"{i % 3} 0.5 0.5 0.4 0.4\n")
    (root / "shapes.yaml").write_text("val: images\nnames: [cat, dog, bird]\n")
    return root / "shapes.yaml"


@pytest.fixture
def data(shapes) -> Path:
    """A data yaml whose images are for training and for validation."""
    shapes.write_text(yaml.safe_dump(yaml.safe_load(shapes.read_text()) | {"train": "images"}))
    return shapes


@pytest.fixture
def weights(slight_unfused, tmp_path) -> Path:
    """A checkpoint of the slight network. Modules whose tests train another one define their own."""
    save(slight_unfused, tmp_path / "dense.pt")
    return tmp_path / "dense.pt"


@pytest.fixture
def run_script(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command's module with these arguments in this process; gives exit code, stdout, stderr."""

    def call(command: ModuleType, *argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run_command(command.__name__.rpartition(".")[2], list(map(str, argv)))
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


@pytest.fixture
def stand_in(tmp_path, network, monkeypatch) -> Path:
    """A file that scripts load as the small network; any other file they load as they would."""
    weights, real_load = tmp_path / "small.pt", opening.load
    weights.write_bytes(b"PK\x03\x04 stands for the network")

    def load(path, **more):
        return network if Path(path) == weights else real_load(path, **more)

    monkeypatch.setattr(opening, "load", load)
    return weights


def _spec(kind: str, _attributes: dict[str, object] | None = None, **children: ModuleSpec) -> ModuleSpec:
    return ModuleSpec(kind, _attributes or {}, children)


def _conv2d(c1: int, c2: int, k: int | tuple[int, int] = 1, s: int = 1, g: int = 1) -> ModuleSpec:
    kernel = k if isinstance(k, tuple) else (k, k)
    shape = {"in_channels": c1, "out_channels": c2, "kernel_size": kernel, "stride": (s, s), "groups": g}
    padding = tuple(side // 2 for side in kernel)
    return _spec("Conv2d", {**shape, "padding": padding, "dilation": (1, 1), "bias": False})


def _norm(c: int) -> ModuleSpec:
    return _spec("BatchNorm2d", {"num_features": c, "eps": 1e-3, "momentum": 0.03})


def _conv(
    c1: int, c2: int, k: int | tuple[int, int] = 1, s: int = 1, g: int = 1, act: str = "SiLU"
) -> ModuleSpec:
    return _spec("Conv", conv=_conv2d(c1, c2, k, s, g), bn=_norm(c2), act=_spec(act))


def _list(kind: str, *modules: ModuleSpec) -> ModuleSpec:
    return _spec(kind, **{str(i): module for i, module in enumerate(modules)})


def _bottleneck(c: int, k: int | tuple[int, int] = 3, g: int = 1, add: bool = True) -> ModuleSpec:
    return _spec("Bottleneck", {"add": add}, cv1=_conv(c, c), cv2=_conv(c, c, k, g=g))


def _c3(*inner: ModuleSpec) -> ModuleSpec:
    """16 channels to 16, 8 within."""
    m = _list("Sequential", *inner)
    return _spec("C3", cv1=_conv(16, 8), cv2=_conv(16, 8), cv3=_conv(16, 16), m=m)


def _spp(c: int) -> ModuleSpec:
    pools = [_spec("MaxPool2d", {"kernel_size": k, "stride": 1, "padding": k // 2}) for k in (3, 5)]
    return _spec("SPP", cv1=_conv(c, c), cv2=_conv(3 * c, c), m=_list("ModuleList", *pools))


def _ghost(c1: int, c2: int, act: str = "SiLU") -> ModuleSpec:
    half = c2 // 2
    return _spec("GhostConv", cv1=_conv(c1, half, act=act), cv2=_conv(half, half, 5, g=half, act=act))


def _transformer(c: int) -> ModuleSpec:
    linear = {"in_features": c, "out_features": c, "bias": False}
    layer = {name: _spec("Linear", linear) for name in ("q", "k", "v", "fc1", "fc2")}
    layer["ma"] = _spec("MultiheadAttention", {"embed_dim": c, "num_heads": 2})
    tr = _list("Sequential", _spec("TransformerLayer", **layer))
    return _spec("TransformerBlock", linear=_spec("Linear", linear), tr=tr)


def _csp() -> ModuleSpec:
    return _spec(
        "BottleneckCSP",
        cv1=_conv(16, 8),
        cv2=_conv2d(16, 8),
        cv3=_conv2d(8, 8),
        cv4=_conv(16, 16),
        bn=_norm(16),
        act=_spec("LeakyReLU", {"negative_slope": 0.1}),
        m=_list("Sequential", _bottleneck(8)),
    )


def _ghost_bottleneck() -> ModuleSpec:
    inner = _list("Sequential", _ghost(16, 8), _conv(8, 8, 3, g=8, act="Identity"), _ghost(8, 16, "Identity"))
    shortcut = _list("Sequential", _conv(16, 16, 3, g=16, act="Identity"), _conv(16, 16, act="Identity"))
    return _spec("GhostBottleneck", conv=inner, shortcut=shortcut)


BLOCKS: dict[str, ModuleSpec] = {
    "C3": _c3(_bottleneck(8), _bottleneck(8)),
    "C3 without shortcut": _c3(_bottleneck(8, add=False)),
    "C3x, of CrossConv": _c3(
        _spec("Bottleneck", {"add": True}, cv1=_conv(8, 8, (1, 3)), cv2=_conv(8, 8, (3, 1)))
    ),
    "C3SPP": _c3(_spp(8)),
    "C3TR": _c3(_transformer(8)),
    "C3Ghost": _c3(_list("Sequential", _ghost(8, 8), _ghost(8, 8))),
    "GhostBottleneck": _ghost_bottleneck(),
    "BottleneckCSP": _csp(),
    "depthwise": _list("Sequential", _conv(16, 16, 3, g=16), _conv(16, 16, 3)),
    "depthwise with a multiplier": _list("Sequential", _conv(16, 32, 3, g=16), _conv(32, 16)),
    "grouped": _list("Sequential", _bottleneck(16, g=4), _conv(16, 16, act="Hardswish")),
    "Contract and Expand": _list(
        "Sequential",
        _spec("Contract", {"gain": 2}),
        _conv(64, 64),
        _spec("Expand", {"gain": 2}),
        _conv(16, 16),
    ),
    "Upsample, then ReLU": _list(
        "Sequential",
        _spec("Upsample", {"size": None, "scale_factor": 2.0, "mode": "nearest"}),
        _conv(16, 16, 3, 2, act="ReLU"),
    ),
}
"""Blocks that published YOLOv5 networks are made of, 16 channels to 16, of small widths."""


def _block_network(block: ModuleSpec, *, fused: bool = True) -> Network:
    """A network of Focus, a block between two convolutions, and a head of one level; weights are random."""
    torch.manual_seed(0)
    head = _spec("Detect", {"nc": 1, "na": 2, "strides": (4,)}, m=_list("ModuleList", _conv2d(16, 12)))
    head.children["m"].children["0"].attributes["bias"] = True
    layers = [_spec("Focus", conv=_conv(12, 16, 3)), _conv(16, 16, 3, 2), block, _conv(16, 16, 3), head]
    network = build(tuple(map(Layer, layers)), ["thing"])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.1, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
    return (fuse(network) if fused else network).requires_grad_(False)


@pytest.fixture(params=BLOCKS)
def odd_network(request) -> tuple[str, Network]:
    """A block's name, and a small fused network that holds it."""
    return request.param, _block_network(BLOCKS[request.param])


@pytest.fixture(params=BLOCKS)
def odd_unfused_network(request) -> Network:
    """A small network that holds a block, with its batch norms."""
    return _block_network(BLOCKS[request.param], fused=False)


@pytest.fixture
def block_network() -> Callable[..., Network]:
    """Makes a small network that holds a block, 16 channels to 16: fused, or with fused=False not."""
    return _block_network


@pytest.fixture
def conv_spec() -> Callable[..., ModuleSpec]:
    """Describes a Conv by channels in, channels out, kernel, stride, groups and activation."""
    return _conv
