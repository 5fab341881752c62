"""Threads read batches ahead: the same ones, in order, without shared memory or processes."""

import threading
from contextlib import closing

import pytest
import torch
from torch.utils.data import DataLoader

from sparsity.base.errors import InputError
from sparsity.data.augment import Augmentation
from sparsity.data.dataset import read_dataset
from sparsity.data.training import TrainingImages, collate
from sparsity.training.batches import ThreadedImages, read_ahead


@pytest.fixture
def images(shapes) -> TrainingImages:
    dataset = read_dataset(shapes, ("cat", "dog", "bird"))
    return TrainingImages(dataset.images, imgsz=64, augmentation=Augmentation(), seed=0)


def test_batches_are_the_same_with_any_number_of_threads(images):
    def batches(workers, ahead):
        loader = DataLoader(ThreadedImages(images, workers), batch_size=4, collate_fn=collate)
        return list(read_ahead(loader, ahead))

    expected = batches(0, 0)
    assert [len(pixels) for pixels, _, _ in expected] == [4, 2]
    for workers in (1, 3):
        for one, other in zip(batches(workers, 2), expected, strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_batches_are_read_ahead_but_not_all(monkeypatch):
    read = []
    stream = read_ahead((read.append(number) or number for number in range(100)), 2)
    with closing(stream):
        assert next(stream) == 0
    assert len(read) <= 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_one_line(images, workers):
    images.images[3].path.write_bytes(b"no image")
    loader = DataLoader(ThreadedImages(images, workers), batch_size=2, collate_fn=collate)
    with pytest.raises(InputError, match=r"3\.png") as caught:
        list(read_ahead(loader, min(workers, 2)))
    assert "Traceback" not in str(caught.value)


def test_the_thread_ends_with_the_iterator():
    def reading() -> list[str]:
        """The names of the threads that read ahead; threads of other tests may end meanwhile."""
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("batch")]

    before = reading()
    with closing(read_ahead(iter(range(10)))) as stream:
        next(stream)
        assert len(reading()) == len(before) + 1
    assert reading() == before
