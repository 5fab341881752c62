"""Batches of images. Threads decode them in advance."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from sparsity.data.dataset import DatasetImage
from sparsity.data.images import read_image
from sparsity.data.letterbox import YOLOV5, Placement, Resizing, Shape, batch_shapes, letterbox, place

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Letterboxed images, uint8 [batch, height, width, 3] RGB, and the placement of each."""

    images: tuple[DatasetImage, ...]
    placements: tuple[Placement, ...]
    pixels: np.ndarray


class BatchLoader:
    """Iterates over batches of images of similar aspect ratio, in YOLOv5's order.

    The images (sorted by path) are sorted by height / width. Each batch is as large as its images need.
    workers: the number of decoding threads (the decoder releases Python's global lock); 0 decodes in the
    calling thread. resizing: how images are resized to imgsz. pinned: whether the pixels lie in page-locked
    memory, from which a GPU copies them itself.
    """

    def __init__(
        self,
        images: Sequence[DatasetImage],
        *,
        imgsz: int,
        batch_size: int,
        stride: int,
        workers: int,
        resizing: Resizing = YOLOV5,
        pinned: bool = False,
    ) -> None:
        self.imgsz, self.workers, self.resizing, self.pinned = imgsz, workers, resizing, pinned
        # As in YOLOv5, numpy's default sort decides the order of equal ratios. The order decides which
        # images share a batch, and so their padding. This changes AP by up to 0.003 on 250 images.
        order = np.argsort([image.height / image.width for image in images])
        ordered = [images[i] for i in order]
        self.batches = [tuple(ordered[i : i + batch_size]) for i in range(0, len(ordered), batch_size)]
        ratios = [image.height / image.width for image in ordered]
        self.shapes = batch_shapes(ratios, batch_size, imgsz, stride)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def read(self, number: int) -> Batch:
        """Return the batch of this number."""
        images = self.batches[number]
        pixels = self._empty(len(images), self.shapes[number])
        for image, out in zip(images, pixels, strict=True):
            self._decode(image, out)
        return self._batch(number, pixels)

    def iterate(self, *, without_pixels: Collection[int] = ()) -> Iterator[Batch]:
        """Yield the batches in order. without_pixels: numbers of batches that are not decoded."""
        if self.workers == 0:
            for number in range(len(self)):
                yield self._batch(number, _NONE) if number in without_pixels else self.read(number)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        try:
            yield from self._decoded_ahead(pool, without_pixels)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decoded_ahead(self, pool: ThreadPoolExecutor, without_pixels: Collection[int]) -> Iterator[Batch]:
        waiting: deque[tuple[int, np.ndarray, list[Future[None]]]] = deque()
        upcoming = iter(range(len(self)))
        while True:
            while len(waiting) <= BATCHES_AHEAD and (number := next(upcoming, None)) is not None:
                if number in without_pixels:
                    waiting.append((number, _NONE, []))
                    continue
                pixels = self._empty(len(self.batches[number]), self.shapes[number])
                pairs = zip(self.batches[number], pixels, strict=True)
                tasks = [pool.submit(self._decode, image, out) for image, out in pairs]
                waiting.append((number, pixels, tasks))
            if not waiting:
                return
            number, pixels, tasks = waiting.popleft()
            for task in tasks:
                task.result()
            yield self._batch(number, pixels)

    def _empty(self, count: int, shape: Shape) -> np.ndarray:
        return torch.empty((count, *shape, 3), dtype=torch.uint8, pin_memory=self.pinned).numpy()

    def _decode(self, image: DatasetImage, out: np.ndarray) -> None:
        letterbox(read_image(image.path), self.imgsz, out, self.resizing)

    def _batch(self, number: int, pixels: np.ndarray) -> Batch:
        images, shape = self.batches[number], self.shapes[number]
        placements = tuple(place((i.height, i.width), self.imgsz, shape, self.resizing) for i in images)
        return Batch(images, placements, pixels)


_NONE = np.empty((0, 0, 0, 3), np.uint8)
