"""Augmented samples and batches for training, from images with true boxes. They are equal in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from sparsity.data.annotations import Labels
from sparsity.data.augment import Augmentation, Sample, finish, letterboxed, mosaic
from sparsity.data.dataset import DatasetImage
from sparsity.data.images import read_image
from sparsity.data.letterbox import letterbox, place

CACHE_BYTES = 2**30


class TrainingImages(Dataset[tuple[Tensor, Tensor | None]]):
    """Augmented samples, one for each image.

    Random choices depend on seed, epoch and index alone. An epoch is therefore the same with any number of
    workers, in any order and after a resumption.
    set_epoch also reaches the workers of a DataLoader, including persistent workers.
    unlabelled: images whose true boxes are unknown. They come after the labelled images. A mosaic never
    mixes labelled and unlabelled images.
    cache_bytes: the memory for decoded images, in all workers of a DataLoader together.
    """

    def __init__(
        self,
        images: Sequence[DatasetImage],
        *,
        imgsz: int,
        augmentation: Augmentation,
        seed: int,
        unlabelled: Sequence[DatasetImage] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.images, self.labelled, self.imgsz = (*images, *unlabelled), len(images), imgsz
        self.augmentation, self.seed = augmentation, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._cache = _Cache(imgsz, cache_bytes)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the random choices depend on. Call it between epochs, not during one."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return a sample: pixels uint8 [3, imgsz, imgsz], RGB; targets float32 [n, 5], None if unlabelled.

        A target is class, cx, cy, w, h, normalised to the sample. Raises InputError where an image can't be
        read.
        """
        tile = self._tile(index)
        rng = np.random.default_rng((self.seed, int(self._epoch), index))
        if rng.random() < self.augmentation.mosaic:
            others = [self._tile(i) for i in rng.integers(*self._like(index), size=3).tolist()]
            sample = mosaic((tile, *others), self.imgsz, rng)
        else:
            sample = letterboxed(tile, self.imgsz)
        sample = finish(sample, self.imgsz, self.augmentation, rng)
        pixels = np.ascontiguousarray(sample.pixels.transpose(2, 0, 1))
        targets = torch.from_numpy(_targets(sample)) if index < self.labelled else None
        return torch.from_numpy(pixels), targets

    def _like(self, index: int) -> tuple[int, int]:
        """Return the first index, and the last index + 1, of the labelled images if this image is labelled.

        Otherwise return those of the unlabelled images.
        """
        return (0, self.labelled) if index < self.labelled else (self.labelled, len(self))

    def _tile(self, index: int) -> Sample:
        """Return an image, with its longer side resized to imgsz, and its boxes."""
        image = self.images[index]
        pixels = self._cache.read(index, image)
        return Sample(pixels, image.labels.classes, _boxes_xyxy(image.labels, pixels))


def collate(samples: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor, int]:
    """Return pixels uint8 [b, 3, h, w], targets float32 [m, 6] and the number of labelled images.

    The labelled images come first; otherwise the order is kept. A target is: index of its image in the
    batch, class, cx, cy, w, h.
    """
    ordered = sorted(samples, key=lambda sample: sample[1] is None)
    labelled = [targets for _, targets in ordered if targets is not None]
    numbers = torch.repeat_interleave(torch.tensor([len(rows) for rows in labelled], dtype=torch.int64))
    rows = torch.cat((numbers[:, None].float(), torch.cat((torch.zeros(0, 5), *labelled))), 1)
    return torch.stack([pixels for pixels, _ in ordered]), rows, len(labelled)


class _Cache:
    """Decoded and resized images by index. limit: the largest size of all, in bytes.

    Once the cache is full, images are neither added nor removed. Images are drawn at random, so no image is
    more useful to keep than another.
    """

    def __init__(self, imgsz: int, limit: int) -> None:
        self.imgsz, self.limit = imgsz, limit
        self.used = 0
        self.kept: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without images: a worker in a new process fills its own cache."""
        return {"imgsz": self.imgsz, "limit": self.limit, "used": 0, "kept": {}}

    def read(self, index: int, image: DatasetImage) -> np.ndarray:
        """Return an image with longer side imgsz: uint8 [height, width, 3] RGB, read-only."""
        if (known := self.kept.get(index)) is not None:
            return known
        pixels = _resized(read_image(image.path), self.imgsz)
        pixels.setflags(write=False)
        worker = get_worker_info()
        if self.used + pixels.nbytes <= self.limit // (worker.num_workers if worker else 1):
            self.kept[index] = pixels
            self.used += pixels.nbytes
        return pixels


def _resized(pixels: np.ndarray, imgsz: int) -> np.ndarray:
    """Return the image as it is in a letterbox of imgsz x imgsz, without the grey padding."""
    square = np.empty((imgsz, imgsz, 3), np.uint8)
    letterbox(pixels, imgsz, square)
    height, width = place(pixels.shape[:2], imgsz, (imgsz, imgsz)).resized
    top, left = (imgsz - height) // 2, (imgsz - width) // 2
    return square[top : top + height, left : left + width].copy()


def _boxes_xyxy(labels: Labels, pixels: np.ndarray) -> np.ndarray:
    """Return the boxes in pixels, clipped to the image: float64 [n, 4]."""
    boxes = labels.boxes_cxcywhn.astype(np.float64)
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    size = np.array(pixels.shape[1::-1] * 2)
    return np.concatenate((centre - half, centre + half), 1).clip(0, 1) * size


def _targets(sample: Sample) -> np.ndarray:
    """Return class, cx, cy, w, h of each box, normalised to the sample: float32 [n, 5]."""
    size = np.array(sample.pixels.shape[1::-1])
    corner, opposite = sample.boxes_xyxy[:, :2] / size, sample.boxes_xyxy[:, 2:] / size
    columns = (sample.classes[:, None], (corner + opposite) / 2, opposite - corner)
    return np.concatenate(columns, 1).astype(np.float32)
