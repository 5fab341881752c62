"""The search for the largest level that keeps a share of the dense AP."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.data.dataset import Dataset
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.formats.saving import check_form, save
from sparsity.pruning.criterion import Criterion
from sparsity.pruning.method import Method
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.bisection import find_last
from sparsity.sweeping.defaults import BATCH_SIZES, BELOW, BOOTSTRAP, RESOLUTION
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.layer_sensitivity import some_images
from sparsity.sweeping.level import DECIMALS, Level, plan
from sparsity.sweeping.session import Session, open_session, pruner_of
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import Store
from sparsity.sweeping.table import LEAST_AP, STAGE, Sweep
from sparsity.sweeping.trainings import open_trainings
from sparsity.sweeping.workers import HireWorkers
from sparsity.validation.inputs import fit, read_data
from sparsity.validation.metrics import Metrics
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network

FOLDER = "search"
"""The folder of the levels that are tried on a part of the images, in the folder of the search."""


@dataclass(frozen=True)
class SearchSettings:
    """What to search for.

    keep_ap: the share of the dense AP that the level keeps, above 0 and at most 1.
    resolution: the step between the sparsities that can be tried, above 0 and at most 0.5.
    search_images: the number of validation images, drawn at random, on which the bisection is done; the
    levels around its result are then tried on all images. 0: all levels are tried on all images.
    """

    keep_ap: float
    resolution: float = RESOLUTION
    search_images: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        for name, most in (("keep_ap", 1), ("resolution", 0.5)):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 < value <= most:
                raise InputError(f"`{name}` is {value!r}; above 0 and at most {most} is expected")
        if not isinstance(self.search_images, int) or self.search_images < 0:
            raise InputError(
                f"`search_images` is {self.search_images!r}; a number of images, or 0 for all, is expected"
            )

    def amount(self, number: int) -> float:
        """Return the sparsity with this number: number x resolution."""
        return round(number * self.resolution, DECIMALS)

    @property
    def last(self) -> int:
        """The number of sparsities below 1."""
        return math.ceil(round(1 / self.resolution, DECIMALS)) - 1


@dataclass(frozen=True)
class FoundLevel:
    """What the search found for one method.

    method: its label. amount: the largest sparsity that was tried and keeps the share. Every tried sparsity
    up to it keeps it, and of the larger ones that were tried, none does. AP, dense_AP: on all images.
    change_low, change_high: the 95% interval of AP minus dense AP; NaN without resamples.
    network: in its first engine, as it was validated.
    """

    method: str
    amount: float
    AP: float
    dense_AP: float
    change_low: float
    change_high: float
    network: Network = field(repr=False)


@dataclass(frozen=True)
class Search:
    """A finished search. found: method's label -> the level; methods for which there is none are left out.

    sweep: all levels that were tried on all images, as a sweep has them. tried: those that were tried on a
    part of the images; None without search_images. lost: method's label -> the share of the dense AP that its
    smallest sparsity keeps, where that is not enough.
    """

    found: Mapping[str, FoundLevel]
    sweep: Sweep
    tried: Sweep | None
    lost: Mapping[str, float]


def find_level(
    network: Network,
    data: str | PathLike[str] | Dataset,
    keep_ap: float = 0.95,
    *,
    methods: Sequence[Method | Criterion | str] = ("l1",),
    resolution: float = RESOLUTION,
    search_images: int = 0,
    pruner: Pruner | None = None,
    settings: ValidationSettings | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    finetune: Finetuning | None = None,
    workers: HireWorkers | None = None,
    compact: bool = False,
    bootstrap: int = BOOTSTRAP,
    save: str | PathLike[str] = "",
    folder: str | PathLike[str] | None = None,
    weights: str = "",
    progress: bool = False,
) -> Search:
    """Find the largest sparsity, by bisection, that keeps a share of the dense AP on the validation images.

    keep_ap, resolution, search_images: see SearchSettings. methods: each is searched for itself. With budget
    "latency", the sparsity is a share of the time, so the result is the fastest network.
    finetune: how each tried level is trained; its AP is then that after training. workers: see sweep.
    save: a file for the network that was found; with several methods, of the largest sparsity (if equal, of
    the highest AP). folder: where each finished level is written. A search that was stopped in it is
    resumed. None: nothing is kept. The other arguments are those of sweep.
    Raises InputError for an argument that can't be used, or if for no method even the smallest sparsity keeps
    the share.
    """
    wanted = SweepSettings(
        (),
        methods,
        batch_sizes,
        settings or ValidationSettings(),
        compact=compact,
        bootstrap=bootstrap,
        finetune=finetune,
    )
    asked = SearchSettings(keep_ap, resolution, search_images)
    file = check_form(save) if save else None
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="search-"))
        given = {"pruner": pruner, "hire": workers, "weights": weights, "progress": progress}
        done = run_search(network, data, asked, wanted, Path(folder), **given)
    if file is not None:
        save_found(done, file)
    return done


def save_found(search: Search, file: Path) -> FoundLevel:
    """Write the network that was found; with several, of the largest sparsity. Returns what it is of."""
    best = max(search.found.values(), key=lambda one: (one.amount, one.AP))
    save(best.network, file, imgsz=int(search.sweep.frame["imgsz"].iloc[0]))
    return best


def run_search(
    network: Network,
    data: str | PathLike[str] | Dataset,
    asked: SearchSettings,
    wanted: SweepSettings,
    folder: Path,
    *,
    pruner: Pruner | None = None,
    hire: HireWorkers | None = None,
    weights: str = "",
    command: str = "",
    title: str = "",
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_level: Callable[[Metrics, AveragePrecision], None] = lambda _metrics, _own: None,
    then: Callable[[Search], None] = lambda _search: None,
) -> Search:
    """Run a search as find_level does, and return it with all that a report needs.

    wanted: its amounts are left out. hire, command, title, say, on_level: see run_sweep. then: called with
    the finished search while its folder is still locked, also if nothing was found.
    """
    pruner = pruner_of(network, pruner, progress=progress)
    limits = {method: _reachable(pruner, method, asked) for method in wanted.methods}
    trainings = None
    if wanted.finetune is not None:
        if wanted.finetune.prune_from == BELOW:
            raise InputError("`prune_from` below goes with a list of levels, not with `keep_ap`")
        shared = Store(folder), (), wanted.engines[0]
        trainings = open_trainings(wanted.finetune, pruner, *shared, progress=progress, say=say)
    if not isinstance(data, Dataset):
        data = read_data(data, network, fit(wanted.validation, network), progress=progress)
    given = {
        "about": {"weights": weights, "command": command, "title": title},
        "asked": asdict(asked),
        "trainings": trainings,
        "hire": hire,
        "progress": progress,
        "say": say,
        "on_level": on_level,
    }
    with open_session(pruner, data, wanted, folder, **given) as session:
        starts, tried = {}, None
        if asked.search_images:
            part = some_images(data, asked.search_images, argument="search_images")
            untimed = replace(wanted, save="", batch_sizes=())
            with open_session(pruner, part, untimed, folder / FOLDER, **given) as first:
                say(f"Searching on {len(part.images)} of {len(data.images)} images")
                trial = _Trial(first, untimed, asked, say)
                starts = {method: trial.find(method, limit) for method, limit in limits.items()}
                tried = first.collect(trial.levels())
                first.store.clear()
        trial = _Trial(session, wanted, asked, say)
        last = {method: trial.find(method, limit, starts.get(method)) for method, limit in limits.items()}
        sweep = session.collect(trial.levels())
        done = _conclude(session, trial, sweep, tried, last)
        then(done)
        session.store.clear()
    _check_found(done, asked)
    return done


def _check_found(done: Search, asked: SearchSettings) -> None:
    """Raise InputError if no method has a level that keeps the share."""
    if not done.found:
        shares = ", ".join(f"{share:.1%} by {method}" for method, share in done.lost.items())
        raise InputError(
            f"`keep_ap` is {asked.keep_ap:g}, but the smallest sparsity, {asked.amount(1):g}, keeps {shares} "
            "of the dense AP; give a smaller share, a smaller `resolution`, or train the levels"
        )


@dataclass
class _Trial:
    """Tries levels in a session, and remembers which were tried."""

    session: Session
    wanted: SweepSettings
    asked: SearchSettings
    say: Callable[[str], None]
    tried: dict[Method, set[float]] = field(default_factory=dict)

    def find(self, method: Method, limit: int, start: int | None = None) -> int:
        """Return the number of the largest sparsity that keeps the share; 0 for none. limit: the last one."""
        dense = self._dense_ap()

        def keeps(number: int) -> bool:
            amount = self.asked.amount(number)
            ap = self._ap(method, amount)
            kept = ap >= self.asked.keep_ap * dense
            self.say(
                f"{method.label} {amount:g}: AP {ap:.3f}, {ap / dense:.1%} of the dense AP: "
                f"{'kept' if kept else 'lost'}"
            )
            return kept

        return find_last(keeps, limit, start)

    def levels(self) -> tuple[Level, ...]:
        """Return all levels that were tried, as a sweep has them. Their latency is measured, in turns."""
        planned = list(self._plan(self.wanted.methods, ()))
        for method, amounts in self.tried.items():
            planned += self._plan((method,), sorted(amounts))
        levels = tuple(dict.fromkeys(planned))
        self.session.measure(levels)
        return levels

    def ap(self, method: Method, amount: float) -> float:
        """Return the AP of a level in the first engine, after training if there is one."""
        level = Level(method, amount, self.wanted.engines[0], self.wanted.stages[-1])
        done = self.session.store.finished(level)
        assert done is not None, f"{level.key} is finished before it is judged"
        return done.metrics.AP

    def _ap(self, method: Method, amount: float) -> float:
        self.tried.setdefault(method, set()).add(amount)
        levels = [level for level in self._plan((method,), (amount,)) if level.amount]
        self.session.measure(levels, timed=False)
        return self.ap(method, amount)

    def _dense_ap(self) -> float:
        self.session.measure(self._plan(self.wanted.methods, ()), timed=False)
        done = self.session.store.finished(Level(Method(), 0.0, self.wanted.engines[0]))
        assert done is not None, "the dense network is finished before it is compared with"
        if done.metrics.AP < LEAST_AP:
            raise InputError(
                f"the dense network has AP {done.metrics.AP:.3f} on {done.metrics.images} images; at least "
                f"{LEAST_AP} is expected, or nothing can be told about a share of it"
            )
        return done.metrics.AP

    def _plan(self, methods: Sequence[Method], amounts: Sequence[float]) -> tuple[Level, ...]:
        return plan(amounts, methods, self.wanted.engines, self.wanted.stages)


def _reachable(pruner: Pruner, method: Method, asked: SearchSettings) -> int:
    """Return the number of the largest sparsity that the method can reach. Raises InputError if none can."""

    def reached(number: int) -> bool:
        try:
            pruner.check(method, asked.amount(number))
        except InputError:
            return False
        return True

    pruner.check(method, asked.amount(1))
    return find_last(reached, asked.last)


def _conclude(
    session: Session, trial: _Trial, sweep: Sweep, tried: Sweep | None, last: Mapping[Method, int]
) -> Search:
    found, lost = {}, {}
    asked, dense = trial.asked, float(sweep.frame.AP.iloc[0])
    for method, number in last.items():
        if not number:
            lost[method.label] = trial.ap(method, asked.amount(1)) / dense
            continue
        row = _row(sweep.frame, method, asked.amount(number))
        level = Level(method, asked.amount(number), trial.wanted.engines[0], trial.wanted.stages[-1])
        found[method.label] = FoundLevel(
            method.label,
            asked.amount(number),
            AP=row["AP"],
            dense_AP=dense,
            change_low=row.get("AP_change_low", math.nan),
            change_high=row.get("AP_change_high", math.nan),
            network=session.copies.network(level),
        )
    return Search(found, sweep, tried, lost)


def _row(frame: pd.DataFrame, method: Method, amount: float) -> dict[str, Any]:
    """Return the row of a level in the first engine, after training if there is one."""
    rows = frame[(frame.method == method.label) & (frame.amount == amount)]
    rows = rows[rows.engine == frame.engine.iloc[0]]
    return (rows[rows[STAGE] == rows[STAGE].iloc[-1]] if STAGE in rows else rows).iloc[0].to_dict()
