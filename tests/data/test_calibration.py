"""Images to learn from: as validation shows them, few of many, no more than memory holds."""

import numpy as np
import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.data.calibration import read_images
from sparsity.data.dataset import read_images as labelless
from sparsity.data.letterbox import YOLOV5
from sparsity.data.loader import BatchLoader
from sparsity.pruning import feature_maps
from sparsity.pruning.feature_maps import image_bytes, limit_by_memory

SIZE = {"imgsz": 64, "stride": 32, "resizing": YOLOV5}


def test_images_are_those_that_validation_shows(shapes):
    said: list[str] = []
    batches = read_images(shapes.parent, 6, **SIZE, say=said.append)
    loader = BatchLoader(labelless(shapes.parent), **SIZE, batch_size=4, workers=0)
    expected = [batch.pixels for batch in loader]
    assert [len(batch) for batch in batches] == [4, 2]
    for batch, pixels in zip(batches, expected, strict=True):
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)
        back = (batch * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
        assert (back == pixels).all()
        assert batch.max() <= 1
    assert said == []


def test_a_seed_chooses(shapes):
    first, again, other = (read_images(shapes.parent, 3, **SIZE, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=False))


def test_fewer_than_asked_are_told(shapes):
    said: list[str] = []
    batches = read_images(shapes.parent, 7, **SIZE, say=said.append)
    assert sum(map(len, batches)) == 6
    warning = f"WARNING: 7 calibration images are asked for, but {shapes.parent} holds 6; all are used"
    assert said == [warning]


@pytest.mark.parametrize(
    ("count", "seed", "words"),
    [(0, 0, "`calib_images` is 0"), (-1, 0, "`calib_images` is -1"), (1, -1, "`calib_seed` is -1")],
)
def test_numbers_out_of_range(shapes, count, seed, words):
    with pytest.raises(InputError, match=words):
        read_images(shapes.parent, count, **SIZE, seed=seed)


def test_no_folder_names_the_argument(tmp_path):
    with pytest.raises(InputError, match=r"`calibration`: .*none: no such folder"):
        read_images(tmp_path / "none", 1, **SIZE)


def test_an_images_bytes_are_those_of_the_largest_map(network):
    # model.0: 16 channels at half the size; float32.
    assert image_bytes(network, (64, 96)) == 6 * 16 * 32 * 48 * 4
    assert next(network.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("images", "used"),
    [pytest.param(100, 8, id="enough"), pytest.param(5, 5, id="some"), pytest.param(0, 1, id="none: one")],
)
def test_memory_limits_how_many(network, monkeypatch, images, used):
    free = 2 * images * image_bytes(network, (96, 96))  # half of it may be used
    monkeypatch.setattr(feature_maps, "free_memory", lambda _device: free)
    said: list[str] = []
    assert limit_by_memory(8, network, (96, 96), torch.device("cpu"), said.append) == used
    assert [f"{used} are used" in line for line in said] == ([] if used == 8 else [True])
