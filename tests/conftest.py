"""What tests share: the real files, where there are any, and small networks."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparsity.yolo.architectures import yolov5
from sparsity.yolo.network import Network, build, fuse


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
