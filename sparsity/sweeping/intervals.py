"""What differences of AP between levels owe to the choice of images: a bootstrap over what levels matched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.evaluation.bootstrap import Bootstrap, Interval, bootstrap, load
from sparsity.evaluation.coco import Matched
from sparsity.sweeping.level import Level
from sparsity.sweeping.store import Store

COLUMNS = ("amount", "method", "other", "difference", "low", "high", "share_above")
"""Of the table of differences between methods."""


def is_matched(store: Store, level: Level) -> bool:
    """Whether a level's matches are there, whole."""
    try:
        load(store.matched_path(level))
    except InputError:
        return False
    return True


def resample(
    store: Store, levels: Sequence[Level], samples: int, tick: Callable[[], object]
) -> Bootstrap | None:
    """Every level's AP on the same draws of images, by key; None for no samples. tick: called for each."""
    return bootstrap(_Matches(store, levels, tick), samples=samples) if samples else None


def change(resampled: Bootstrap | None, level: Level) -> Interval | None:
    """AP minus the dense network's in the same engine, None where nothing was resampled."""
    return None if resampled is None else resampled.interval(level.key, level.dense.key)


def differences(resampled: Bootstrap | None, levels: Sequence[Level]) -> pd.DataFrame:
    """AP of a method minus that of another at the same amount, with its interval, for every two of them.

    Of levels in several engines those in the first one count.
    """
    levels, rows = [level for level in levels if level.engine == levels[0].engine], []
    for amount in sorted({level.amount for level in levels} - {0.0}) if resampled else ():
        at_amount = [level for level in levels if level.amount == amount]
        for one, other in combinations(at_amount, 2):
            names = {"amount": amount, "method": one.method.label, "other": other.method.label}
            rows.append(names | asdict(resampled.interval(one.key, other.key)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Matches(Mapping[str, Matched]):
    """Levels' matches by key, read when they are asked for: one is in memory at a time."""

    def __init__(self, store: Store, levels: Sequence[Level], tick: Callable[[], object]) -> None:
        self._store, self._tick = store, tick
        self._levels = {level.key: level for level in levels}

    def __getitem__(self, key: str) -> Matched:
        self._tick()
        return load(self._store.matched_path(self._levels[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)
