"""Training samples: the same for seed, epoch and index, whoever makes them, and batches of them."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sparsity.base.errors import InputError
from sparsity.data import training as module
from sparsity.data.annotations import NO_LABELS, Labels
from sparsity.data.augment import NONE, Augmentation
from sparsity.data.dataset import DatasetImage
from sparsity.data.images import read_image
from sparsity.data.letterbox import GREY, letterbox, place
from sparsity.data.training import TrainingImages, collate

IMGSZ = 64
SIZES = [(40, 30), (30, 40), (64, 64), (147, 80), (33, 90), (200, 150), (60, 59)]


@pytest.fixture
def images(tmp_path) -> list[DatasetImage]:
    """Images of noise of many shapes; the first without labels, the others with one to six."""
    rng = np.random.default_rng(0)
    made = []
    for i, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (height, width, 3), np.uint8))
        boxes = np.concatenate((rng.uniform(0.3, 0.7, (i, 2)), rng.uniform(0.2, 0.6, (i, 2))), 1)
        labels = Labels(np.arange(i), boxes.astype(np.float32)) if i else NO_LABELS
        made.append(DatasetImage(path, i + 1, width, height, labels))
    return made


DEFAULT = Augmentation()


def training(images, augmentation=DEFAULT, seed=0, **more) -> TrainingImages:
    return TrainingImages(images, imgsz=IMGSZ, augmentation=augmentation, seed=seed, **more)


def epoch_of(samples: TrainingImages, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    samples.set_epoch(epoch)
    return [samples[i] for i in range(len(samples))]


def same(one, other) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


def loader(samples: TrainingImages, workers: int, **more) -> DataLoader:
    return DataLoader(samples, 3, num_workers=workers, collate_fn=collate, **more)


@pytest.mark.parametrize("augmentation", [DEFAULT, Augmentation(mosaic=0), NONE])
def test_what_a_sample_is(images, augmentation):
    for pixels, targets in epoch_of(training(images, augmentation)):
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, IMGSZ, IMGSZ))
        assert pixels.is_contiguous()
        assert (targets.dtype, targets.shape[1:]) == (torch.float32, (5,))
        corners = torch.cat((targets[:, 1:3] - targets[:, 3:] / 2, targets[:, 1:3] + targets[:, 3:] / 2))
        assert ((corners > -1e-6) & (corners < 1 + 1e-6)).all()
        assert (targets[:, 3:] * IMGSZ > 1.99).all()


def test_none_is_the_letterbox(images):
    for image, (pixels, targets) in zip(images, epoch_of(training(images, NONE)), strict=True):
        expected = np.empty((IMGSZ, IMGSZ, 3), np.uint8)
        letterbox(read_image(image.path), IMGSZ, expected)
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)
        assert targets[:, 0].tolist() == image.labels.classes.tolist()
        boxes = image.labels.boxes_cxcywhn
        corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
        clipped = corners.clip(0, 1)
        inside = np.concatenate(((clipped[:, :2] + clipped[:, 2:]) / 2, clipped[:, 2:] - clipped[:, :2]), 1)
        placement = place((image.height, image.width), IMGSZ, (IMGSZ, IMGSZ))
        cxcywh = targets[:, 1:].numpy() * IMGSZ
        found = np.concatenate((cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2), 1)
        # The letterbox lays pixels half a pixel from where its placement says, at uneven sides.
        np.testing.assert_allclose(found, placement.to_letterbox_xyxy(inside), atol=0.51)


def test_none_is_the_letterbox_where_that_resizes_twice(tmp_path):
    """Of 147 pixels, 640 / 147 makes a hair more than 640, rounded up to 641."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (147, 74, 3), np.uint8))
    images = [DatasetImage(path, 1, 74, 147, NO_LABELS)]
    pixels, _ = TrainingImages(images, imgsz=640, augmentation=NONE, seed=0)[0]
    expected = np.empty((640, 640, 3), np.uint8)
    letterbox(read_image(path), 640, expected)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("mosaic", [0.0, 0.5, 1.0])
def test_samples_depend_on_seed_epoch_and_index_alone(images, mosaic):
    augmentation = Augmentation(mosaic=mosaic)
    first = epoch_of(training(images, augmentation), 3)
    other = training(images, augmentation)
    epoch_of(other, 2)
    other.set_epoch(3)
    backwards = [other[i] for i in reversed(range(len(other)))]
    assert same(first, backwards[::-1])


def test_seeds_epochs_and_indices_differ(images):
    samples = training([images[5]] * 4)
    made = epoch_of(samples, 0) + epoch_of(samples, 1) + epoch_of(training([images[5]] * 4, seed=1), 0)
    distinct = {pixels.numpy().tobytes() for pixels, _ in made}
    assert len(distinct) == 12


def test_mosaic_is_as_frequent_as_told(images, monkeypatch):
    calls = []
    real = module.mosaic
    monkeypatch.setattr(module, "mosaic", lambda *given: (calls.append(1), real(*given))[1])
    samples = training(images, Augmentation(mosaic=0.5))
    for epoch in range(20):
        epoch_of(samples, epoch)
    assert 45 < len(calls) < 95


def test_no_labels(images):
    _, targets = training(images[:1])[0]
    assert targets.shape == (0, 5)


def plain(tmp_path, value: int, count: int) -> list[DatasetImage]:
    """Images of one shade, with a box each."""
    labels = Labels(np.zeros(1, np.int64), np.full((1, 4), 0.5, np.float32))
    paths = [tmp_path / f"{value}-{i}.png" for i in range(count)]
    for path in paths:
        cv2.imwrite(str(path), np.full((40, 60, 3), value, np.uint8))
    return [DatasetImage(path, i, 60, 40, labels) for i, path in enumerate(paths)]


def test_a_mosaic_never_mixes_labelled_and_unlabelled_images(tmp_path):
    light, dark = plain(tmp_path, 200, 3), plain(tmp_path, 50, 4)
    still = Augmentation(hue=0, saturation=0, value=0)
    samples = training(light, still, unlabelled=dark)
    for epoch in range(5):
        made = epoch_of(samples, epoch)
        assert all(pixels.min() >= GREY and targets is not None for pixels, targets in made[:3])
        assert all(pixels.max() <= GREY and targets is None for pixels, targets in made[3:])


def test_unlabelled_images_leave_the_labelled_ones_as_they_were(images):
    alone, beside = training(images), training(images, unlabelled=images)
    assert len(beside) == 2 * len(alone)
    assert same(epoch_of(alone), epoch_of(beside)[: len(alone)])


def test_collate_puts_labelled_images_first():
    targets = [None, torch.full((2, 5), 1.0), None, torch.zeros(0, 5), torch.full((1, 5), 4.0)]
    samples = [(torch.full((3, 4, 4), i, dtype=torch.uint8), rows) for i, rows in enumerate(targets)]
    batch, rows, labelled = collate(samples)
    assert labelled == 3, "an empty label file is one too"
    assert batch[:, 0, 0, 0].tolist() == [1, 3, 4, 0, 2]
    assert rows[:, :2].tolist() == [[0, 1], [0, 1], [2, 4]]
    batch, rows, labelled = collate([samples[0], samples[2]])
    assert (len(batch), rows.dtype, rows.shape, labelled) == (2, torch.float32, (0, 6), 0)


def test_collate_counts_images():
    targets = [torch.full((n, 5), float(n)) for n in (2, 0, 3)]
    pixels = [torch.full((3, 4, 6), n, dtype=torch.uint8) for n in range(3)]
    batch, rows, labelled = collate(list(zip(pixels, targets, strict=True)))
    assert labelled == 3
    assert (batch.dtype, batch.shape) == (torch.uint8, (3, 3, 4, 6))
    assert [int(one.float().mean()) for one in batch] == [0, 1, 2]
    assert (rows.dtype, rows.shape) == (torch.float32, (5, 6))
    assert rows[:, 0].tolist() == [0, 0, 2, 2, 2]
    assert rows[:, 1].tolist() == [2, 2, 3, 3, 3]


def test_collate_without_targets():
    _, rows, _ = collate([(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(0, 5))] * 2)
    assert (rows.dtype, rows.shape) == (torch.float32, (0, 6))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_persistent_workers_give_what_none_give_in_each_epoch(images, method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    alone = training(images)
    helped = training(images)
    helped[0]
    batches = loader(helped, 2, persistent_workers=True, multiprocessing_context=method)
    seen = []
    for epoch in (0, 1, 5):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        expected, made = list(loader(alone, 0)), list(batches)
        assert same([batch[:2] for batch in expected], [batch[:2] for batch in made])
        seen.append(made)
    assert not torch.equal(seen[0][0][0], seen[1][0][0])


def counted(monkeypatch) -> list[Path]:
    """What is decoded from now on."""
    read: list[Path] = []
    real = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: (read.append(path), real(path))[1])
    return read


def test_each_image_is_decoded_once(images, monkeypatch):
    read = counted(monkeypatch)
    samples = training(images)
    for epoch in range(3):
        epoch_of(samples, epoch)
    assert sorted(read) == sorted({image.path for image in images})


def test_the_cache_is_bounded(images, monkeypatch):
    read = counted(monkeypatch)
    limit = 2 * IMGSZ * IMGSZ * 3
    bounded, none, all_kept = (
        training(images, cache_bytes=limit),
        training(images, cache_bytes=0),
        training(images),
    )
    for epoch in range(3):
        assert same(epoch_of(bounded, epoch), epoch_of(none, epoch))
        assert same(epoch_of(bounded, epoch), epoch_of(all_kept, epoch))
    kept = bounded._cache.kept
    assert 0 < sum(pixels.nbytes for pixels in kept.values()) == bounded._cache.used <= limit
    assert not none._cache.kept
    assert len(read) > len(images)


def test_kept_images_are_not_changed(images):
    samples = training(images, Augmentation(mosaic=0.5))
    epoch_of(samples)
    kept = {index: pixels.copy() for index, pixels in samples._cache.kept.items()}
    epoch_of(samples, 1)
    for index, pixels in kept.items():
        np.testing.assert_array_equal(samples._cache.kept[index], pixels)
        assert pixels.shape[:2] == place(SIZES[index], IMGSZ, (IMGSZ, IMGSZ)).resized


def test_workers_share_the_bound(images, monkeypatch):
    samples = training(images, cache_bytes=2 * IMGSZ * IMGSZ * 3)
    worker = type("Worker", (), {"num_workers": 4})
    monkeypatch.setattr(module, "get_worker_info", lambda: worker)
    epoch_of(samples)
    assert samples._cache.used <= IMGSZ * IMGSZ * 3 // 2


def test_kept_images_are_not_sent_to_workers(images):
    samples = training(images)
    epoch_of(samples)
    cache = pickle.loads(pickle.dumps(samples._cache))
    assert (cache.kept, cache.used, cache.limit) == ({}, 0, samples._cache.limit)


def test_an_image_that_vanished_is_an_error(images):
    images[2].path.unlink()
    with pytest.raises(InputError, match=r"2\.png: cannot be read"):
        epoch_of(training(images))


def test_no_images():
    assert len(training([])) == 0
    assert list(training([])) == []
