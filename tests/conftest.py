"""What tests share: the real files, where there are any, and small networks."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from sparsity import cli
from sparsity.pruning import curves
from sparsity.yolo import architectures
from sparsity.yolo.architectures import yolov5
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.spec import Layer, ModuleSpec


def pytest_configure() -> None:
    """Share the cores out among the processes that run tests side by side, and what they start."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    threads = max(1, torch.get_num_threads() // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


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
def shallow(tiny) -> Network:
    """As tiny, but the first seven layers alone and a head of one level: exported in seconds."""
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
    return fuse(network).requires_grad_(False)


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
def run_script(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a script's module with these arguments in this process; gives exit code, stdout, stderr."""

    def call(script: ModuleType, *argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            cli.run(script.main)
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


@pytest.fixture
def stand_in(tmp_path, network, monkeypatch) -> Callable[[ModuleType], Path]:
    """Make a file that a script loads as the small network; any other file it loads as it would."""

    def make(script: ModuleType) -> Path:
        weights, real_load = tmp_path / "small.pt", script.load
        weights.write_bytes(b"PK\x03\x04 stands for the network")

        def load(path, **more):
            return network if Path(path) == weights else real_load(path, **more)

        monkeypatch.setattr(script, "load", load)
        return weights

    return make
