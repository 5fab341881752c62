"""Batches of training images, which threads read ahead.

Threads need no shared memory. Processes do, and where it is too small, as in Docker, a batch never arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor
from torch.utils.data import Dataset

from sparsity.data.training import TrainingImages

BATCHES_AHEAD = 2
Item = TypeVar("Item")
Sample = tuple[Tensor, Tensor | None]


class ThreadedImages(Dataset[Sample]):
    """Training images, of which threads read several at a time. Their number changes no sample.

    workers: the number of threads; 0 reads in the calling thread.
    """

    def __init__(self, images: TrainingImages, workers: int) -> None:
        self.images = images
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="sample") if workers else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, as TrainingImages does."""
        return self.images[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return samples in order. PyTorch's DataLoader calls it with the indices of a batch.

        Raises InputError where an image can't be read.
        """
        read = map if self._pool is None else self._pool.map
        return list(read(self.images.__getitem__, indices))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the random choices depend on (see TrainingImages)."""
        self.images.set_epoch(epoch)


def read_ahead(batches: Iterable[Item], count: int = BATCHES_AHEAD) -> Iterator[Item]:
    """Yield the batches in order. Another thread reads up to count of them ahead; with 0, none.

    An error of the batches is raised here. Close the iterator to end the thread.
    """
    if not count:
        yield from batches
        return
    stream, end = iter(batches), object()
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        waiting: deque[Future[Item | object]] = deque()
        try:
            waiting.extend(pool.submit(next, stream, end) for _ in range(count))
            while (batch := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, stream, end))
                yield batch
        finally:
            for future in waiting:
                future.cancel()
