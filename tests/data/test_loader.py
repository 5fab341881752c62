"""Batches: their order, their bytes, and the threads that make them."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.data import loader as module
from sparsity.data.annotations import NO_LABELS
from sparsity.data.dataset import DatasetImage
from sparsity.data.letterbox import batch_shapes, letterbox
from sparsity.data.loader import BatchLoader

SIZES = [(40, 30), (30, 40), (20, 60), (64, 64), (50, 25), (90, 30), (33, 47), (128, 100), (60, 59), (10, 80)]


@pytest.fixture
def images(tmp_path) -> list[DatasetImage]:
    """Images of noise of many shapes."""
    random = np.random.default_rng(0)
    made = []
    for i, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (height, width, 3), np.uint8))
        made.append(DatasetImage(path, i, width, height, NO_LABELS))
    return made


def loader(images, workers: int = 0, batch_size: int = 3) -> BatchLoader:
    return BatchLoader(images, imgsz=64, batch_size=batch_size, stride=32, workers=workers)


def decoding() -> list[str]:
    """The names of the decoding threads that are alive."""
    return [thread.name for thread in threading.enumerate() if "decode" in thread.name]


@pytest.mark.parametrize("pinned", [False, True])
def test_pixels_lie_in_pinned_memory_where_asked(images, monkeypatch, pinned):
    asked, empty = [], torch.empty

    def without_a_gpu(*args, pin_memory, **options):
        asked.append(pin_memory)
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", without_a_gpu)
    made = BatchLoader(images, imgsz=64, batch_size=3, stride=32, workers=2, pinned=pinned)
    for one, other in zip(made, loader(images), strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert asked[:1] == [pinned]
    assert asked.count(pinned) >= len(made)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(
    ("batch_size", "lengths"),
    [
        pytest.param(1, [1] * 10, id="one by one"),
        pytest.param(3, [3, 3, 3, 1], id="a last, short batch"),
        pytest.param(5, [5, 5], id="all full"),
        pytest.param(32, [10], id="fewer than a batch"),
    ],
)
def test_batches_are_in_order_of_height_by_width(images, workers, batch_size, lengths):
    batches = loader(images, workers, batch_size)
    made = list(batches)
    assert [len(batch.images) for batch in made] == lengths
    assert len(batches) == len(lengths)
    ratios = [image.height / image.width for batch in made for image in batch.images]
    assert ratios == sorted(height / width for height, width in SIZES)
    assert [b.pixels.shape[1:3] for b in made] == batch_shapes(ratios, batch_size, 64, 32)


def test_pixels_are_the_letterboxed_rgb_image(images):
    for batch in loader(images):
        assert batch.pixels.dtype == np.uint8
        for image, placement, pixels in zip(batch.images, batch.placements, batch.pixels, strict=True):
            rgb = cv2.imread(str(image.path))[..., ::-1]
            expected = np.empty_like(pixels)
            letterbox(np.ascontiguousarray(rgb), 64, expected)
            np.testing.assert_array_equal(pixels, expected)
            assert placement.original == (image.height, image.width)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_threads_change_no_byte(images, batch_size):
    alone = list(loader(images, 0, batch_size))
    for _ in range(2):
        helped = list(loader(images, 3, batch_size))
        for one, other in zip(alone, helped, strict=True):
            assert (one.images, one.placements) == (other.images, other.placements)
            np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_loader_can_be_gone_through_again(images, workers):
    batches = loader(images, workers)
    first, second = list(batches), list(batches)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert decoding() == []


@pytest.mark.parametrize("workers", [0, 3])
def test_no_images(workers):
    assert list(loader([], workers)) == []
    assert decoding() == []


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(
    ("vanished", "before"),
    [pytest.param(9, 0, id="in the first batch"), pytest.param(5, 3, id="in the last batch")],
)
def test_an_image_that_vanished_is_an_error_and_ends_the_threads(images, workers, vanished, before):
    batches = iter(loader(images, workers))
    images[vanished].path.unlink()
    for _ in range(before):
        next(batches)
    with pytest.raises(InputError, match=rf"{vanished}\.png: cannot be read \(No such file"):
        next(batches)
    assert decoding() == []


@pytest.mark.parametrize("workers", [0, 3])
def test_an_image_that_was_damaged_is_an_error(images, workers):
    images[0].path.write_bytes(b"text")
    with pytest.raises(InputError, match=r"0\.png: OpenCV cannot decode it"):
        list(loader(images, workers))
    assert decoding() == []


def test_threads_run_while_batches_come_and_end_with_them(images):
    seen = [bool(decoding()) for _ in loader(images, 3, 1)]
    assert seen == [True] * len(images)
    assert decoding() == []


def test_leaving_the_loop_early_ends_the_threads(images):
    for _ in loader(images, 3, 1):
        assert decoding()
        break
    assert decoding() == []


def test_an_error_in_the_loop_ends_the_threads(images):
    batches = iter(loader(images, 3, 1))

    def fail(batches):
        for _ in batches:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail(batches)
    batches.close()
    assert decoding() == []


def test_few_batches_are_decoded_ahead(images, monkeypatch):
    read: list[Path] = []
    real = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: (read.append(path), real(path))[1])
    batches = iter(loader(images, 3, 1))
    next(batches)
    batches.close()
    assert len(read) <= module.BATCHES_AHEAD + 1
