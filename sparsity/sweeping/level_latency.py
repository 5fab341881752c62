"""The latency of levels: the network alone, at fixed batch sizes. The levels take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sparsity.base.errors import InputError
from sparsity.sweeping.copies import Copies
from sparsity.sweeping.level import Level
from sparsity.timing.latency import Rounds
from sparsity.timing.networks import time_detectors

SEED = 0


def time_levels(
    copies: Copies,
    levels: Sequence[Level],
    batch_size: int,
    imgsz: int,
    rounds: Rounds,
    tick: Callable[[int, int], None],
) -> list[dict[str, list[float]]]:
    """Measure the milliseconds of each level for a batch of random images, [batch_size, 3, imgsz, imgsz].

    If memory cannot hold all levels, they take turns in groups. Each group contains the dense levels.
    tick: called with the number of images done and to do, of the groups so far.
    Returns, for each group, the milliseconds of every run by the level's key.
    """
    dense = tuple(level for level in levels if level == level.dense)
    others = [level for level in levels if level != level.dense]
    size = max(1, copies.fitting - len(dense))
    groups = [(*dense, *others[i : i + size]) for i in range(0, len(others), size)] or [dense]
    pixels = _random_images(batch_size, imgsz)
    times, before = [], 0
    for group in groups:
        detectors = [copy.detector for copy in copies.get(group).values()]
        each = batch_size * len(group)

        def count(done: int, todo: int, before: int = before, each: int = each) -> None:
            tick(before + done * each, before + todo * each)

        spent = time_detectors(detectors, pixels, rounds, count)
        times.append({level.key: one for level, one in zip(group, spent, strict=True)})
        before += each * (len(spent[0]) + 1)
    return times


def _random_images(count: int, imgsz: int) -> torch.Tensor:
    try:
        return torch.rand(count, 3, imgsz, imgsz, generator=torch.Generator().manual_seed(SEED))
    except RuntimeError as error:
        raise InputError(
            f"`batch_sizes`: memory cannot hold a batch of {count}; give smaller batch sizes"
        ) from error
