"""What tests share: the real files, where there are any, and small networks."""

import os
from pathlib import Path

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
