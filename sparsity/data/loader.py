"""Images -> batches, decoded ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sparsity.data.dataset import DatasetImage
from sparsity.data.images import read_image
from sparsity.data.letterbox import Placement, Shape, batch_shapes, letterbox, place

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Letterboxed images: uint8 [batch, height, width, 3] RGB, and where each lies in its letterbox."""

    images: tuple[DatasetImage, ...]
    placements: tuple[Placement, ...]
    pixels: np.ndarray


class BatchLoader:
    """Iterates over batches of images of like aspect ratio, in YOLOv5's order.

    Images (sorted by path) are sorted by height / width; each batch is as large as its images need.
    workers: decoding threads (the decoder works outside Python's lock); 0 decodes in this thread.
    """

    def __init__(
        self,
        images: Sequence[DatasetImage],
        *,
        imgsz: int,
        batch_size: int,
        stride: int,
        workers: int,
    ) -> None:
        self.imgsz, self.workers = imgsz, workers
        # YOLOv5 leaves the order of equal ratios to numpy's default sort, and so does this: which
        # of them share a batch, and so their padding, moves AP by up to 0.003 on 250 images.
        order = np.argsort([image.height / image.width for image in images])
        ordered = [images[i] for i in order]
        self.batches = [tuple(ordered[i : i + batch_size]) for i in range(0, len(ordered), batch_size)]
        ratios = [image.height / image.width for image in ordered]
        self.shapes = batch_shapes(ratios, batch_size, imgsz, stride)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self.workers == 0:
            for images, shape in zip(self.batches, self.shapes, strict=True):
                pixels = _empty(len(images), shape)
                for image, out in zip(images, pixels, strict=True):
                    self._decode(image, out)
                yield self._batch(images, pixels)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        try:
            yield from self._decoded_ahead(pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decoded_ahead(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        waiting: deque[tuple[tuple[DatasetImage, ...], np.ndarray, list[Future[None]]]] = deque()
        upcoming = iter(zip(self.batches, self.shapes, strict=True))
        while True:
            while len(waiting) <= BATCHES_AHEAD and (entry := next(upcoming, None)) is not None:
                images, shape = entry
                pixels = _empty(len(images), shape)
                pairs = zip(images, pixels, strict=True)
                tasks = [pool.submit(self._decode, image, out) for image, out in pairs]
                waiting.append((images, pixels, tasks))
            if not waiting:
                return
            images, pixels, tasks = waiting.popleft()
            for task in tasks:
                task.result()
            yield self._batch(images, pixels)

    def _decode(self, image: DatasetImage, out: np.ndarray) -> None:
        letterbox(read_image(image.path), self.imgsz, out)

    def _batch(self, images: tuple[DatasetImage, ...], pixels: np.ndarray) -> Batch:
        shape = pixels.shape[1:3]
        placements = tuple(place((i.height, i.width), self.imgsz, shape) for i in images)
        return Batch(images, placements, pixels)


def _empty(count: int, shape: Shape) -> np.ndarray:
    return np.empty((count, *shape, 3), np.uint8)
