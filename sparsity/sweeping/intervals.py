"""Intervals of the differences in AP between levels: a bootstrap over the images."""

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
"""The columns of the table of differences between methods."""


def is_matched(store: Store, level: Level) -> bool:
    """Whether the file of a level's matched detections exists and is complete."""
    try:
        load(store.matched_path(level))
    except InputError:
        return False
    return True


def resample(
    store: Store, levels: Sequence[Level], samples: int, tick: Callable[[], object]
) -> Bootstrap | None:
    """Return the AP of each level on the same resamples of the images, by key; None if samples is 0.

    tick: called each time that the matches of a level are read.
    """
    return bootstrap(_Matches(store, levels, tick), samples=samples) if samples else None


def change(resampled: Bootstrap | None, level: Level) -> Interval | None:
    """Return AP minus that of the dense network in the same engine; None if nothing was resampled."""
    return None if resampled is None else resampled.interval(level.key, level.dense.key)


def differences(resampled: Bootstrap | None, levels: Sequence[Level]) -> pd.DataFrame:
    """Return AP of a method minus AP of another at the same amount, with its interval, for each pair.

    A method before and after training counts as two. If the levels run in several engines, only those in the
    first engine are compared. Without resamples, the table has no rows.
    """
    levels, rows = [level for level in levels if level.engine == levels[0].engine], []
    for amount in sorted({level.amount for level in levels} - {0.0}) if resampled else ():
        at_amount = [level for level in levels if level.amount == amount]
        for one, other in combinations(at_amount, 2):
            names = {"amount": amount, "method": one.name, "other": other.name}
            rows.append(names | asdict(resampled.interval(one.key, other.key)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Matches(Mapping[str, Matched]):
    """The matches of levels, by key. They are read on access: only one level's are in memory at a time."""

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
