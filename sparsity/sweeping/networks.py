"""The pruned networks that a sweep keeps: of every level, or of the best one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.formats.saving import save
from sparsity.sweeping.level import Level
from sparsity.sweeping.stages import ONE_SHOT
from sparsity.sweeping.store import Store
from sparsity.sweeping.table import LEAST_AP, STAGE
from sparsity.yolo.network import Network

NONE, BEST, ALL = "", "best", "all"
SAVED = (NONE, BEST, ALL)
"""The values of a sweep's save: no network, that of the best level, or those of all pruned levels."""
FILE = "network.safetensors"
KEPT_AP = 0.95
"""The best level is the one with the largest sparsity that keeps this share of the dense AP."""


def check_saved(value: str) -> str:
    """Return the value. Raises InputError if it is none of SAVED."""
    if value not in SAVED:
        raise InputError(f"`save` is {value!r}; best, all, or nothing is expected")
    return value


def best_level(frame: pd.DataFrame, levels: Sequence[Level]) -> Level | None:
    """Return the pruned level with the largest sparsity that keeps 95% of the dense AP, in the first engine.

    Of two levels with the same sparsity, the one with the higher AP is returned. frame: as make_frame
    returns it. None if no level keeps as much, or if the dense AP is too low to tell.
    """
    dense, rows = frame.AP.iloc[0], frame[(frame.engine == frame.engine.iloc[0]) & (frame.amount > 0)]
    kept = rows[rows.AP.ge(KEPT_AP * dense)].sort_values(["amount", "AP"], kind="stable")
    if dense < LEAST_AP or kept.empty:
        return None
    best = kept.iloc[-1]
    wanted = best.method, best.amount, best.get(STAGE, ONE_SHOT)
    return next(one for one in pruned(levels) if (one.method.label, one.amount, one.stage) == wanted)


def pruned(levels: Sequence[Level]) -> list[Level]:
    """Return the levels that are pruned, in the first engine. The engines of a level share its network."""
    return [level for level in levels if level.amount and level.engine == levels[0].engine]


def chosen(saved: str, frame: pd.DataFrame, levels: Sequence[Level]) -> list[Level]:
    """Return the levels whose networks are kept. saved: one of SAVED. frame: of the finished sweep."""
    if saved == ALL:
        return pruned(levels)
    best = best_level(frame, levels) if saved == BEST else None
    return [] if best is None else [best]


def keeper(saved: str, store: Store, engine: str) -> Callable[[Level, Network], None]:
    """Return what is called with each network of a sweep: it writes those that are kept anyway.

    Which level is the best one is known at the end only. saved: one of SAVED. engine: the first one, in whose
    folder the network of a level lies.
    """

    def keep(level: Level, network: Network) -> None:
        if saved == ALL and level.amount:
            save_networks(store, [replace(level, engine=engine)], lambda _level: network, lambda _line: None)

    return keep


def save_networks(
    store: Store,
    levels: Sequence[Level],
    make: Callable[[Level], Network],
    say: Callable[[str], None],
) -> list[Path]:
    """Write the network of each level into its folder, in half precision; return the paths.

    A network that is there already is left as it is. make: returns the pruned network of a level.
    """
    paths = []
    for level in levels:
        path = store.level_folder(level) / FILE
        if not path.exists():
            save(make(level), path)
            say(f"Saved {path}")
        paths.append(path)
    return paths
