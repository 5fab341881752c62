"""An open sweep: its folder is locked, and levels are measured and collected on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from sparsity.base.devices import describe_environment, package_version, select_device
from sparsity.base.errors import InputError
from sparsity.base.files import writing_into
from sparsity.data.dataset import Dataset
from sparsity.engines.table import ENGINES, check_images, engine_packages, need_images
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.pruning.method import any_by_time
from sparsity.pruning.price_curves import as_record
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.collecting import collect
from sparsity.sweeping.copies import Copies, LevelMaker
from sparsity.sweeping.defaults import BELOW
from sparsity.sweeping.job import Job
from sparsity.sweeping.level import Level
from sparsity.sweeping.networks import ALL, chosen, keeper, save_networks
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.stages import FINE_TUNED
from sparsity.sweeping.store import PRICES, Store
from sparsity.sweeping.table import Sweep
from sparsity.sweeping.trainings import Trainings
from sparsity.sweeping.workers import HireWorkers, Order, Workers
from sparsity.validation.detector import Lanes
from sparsity.validation.inputs import fit, read_data
from sparsity.validation.metrics import Metrics
from sparsity.validation.run_files import write_annotations
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.setup import describe_setup
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class Session:
    """An open sweep. job: measures levels into the store. copies: makes their networks.

    about, identity: what the folder holds about the sweep. trainings: of its levels; None for none.
    """

    job: Job
    copies: Copies
    about: dict[str, Any]
    identity: dict[str, Any]
    trainings: Trainings | None

    @property
    def store(self) -> Store:
        """The store of the sweep's folder."""
        return self.job.store

    @property
    def _train(self) -> Callable[[Sequence[Level]], None]:
        """Trains levels: the workers, or this process."""
        assert self.trainings is not None, "there are trainings"
        return self.trainings.train if self.job.workers is None else self.job.workers.train

    def measure(self, levels: Sequence[Level], *, timed: bool = True) -> None:
        """Measure what the store does not have yet of these levels: prune, validate, train, validate.

        Where a level is pruned from a fine-tuned one, all trainings come first. timed: see Job.run.
        """
        one_shot = [level for level in levels if level.stage != FINE_TUNED]
        trained = [level for level in levels if level.stage == FINE_TUNED]
        if self.trainings is None or not trained:
            self.job.run(self.copies, levels, timed=timed)
        elif self.trainings.how.prune_from == BELOW:
            self._train(trained if self.job.missing(levels) else ())
            self.job.run(self.copies, levels, timed=timed)
        else:
            self.job.run(self.copies, one_shot, timed=timed)
            self.copies.get(())  # The memory is for the trainings.
            self._train(self.job.missing(trained))
            self.job.run(self.copies, trained, timed=timed)

    def collect(self, levels: Sequence[Level]) -> Sweep:
        """Return these levels, all measured, as a Sweep, and write the networks that are kept."""
        job = self.job
        result = collect(job.store, levels, job.wanted, job.settings, self.about, self.identity, job.progress)
        kept = chosen(job.wanted.save, result.frame, levels)
        save_networks(job.store, kept, self.copies.network, job.say)
        return result


def pruner_of(network: Network, pruner: Pruner | None, *, progress: bool) -> Pruner:
    """Return the pruner, or one without calibration images. Raises InputError if it is another network's."""
    pruner = pruner or Pruner(network, progress=progress)
    if pruner.network is not network:
        raise InputError("`pruner` is a pruner of another network; a pruner of `network` itself is expected")
    return pruner


@contextmanager
def open_session(
    pruner: Pruner,
    data: str | PathLike[str] | Dataset,
    wanted: SweepSettings,
    folder: Path,
    *,
    asked: Mapping[str, Any],
    about: Mapping[str, Any],
    trainings: Trainings | None = None,
    hire: HireWorkers | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_level: Callable[[Metrics, AveragePrecision], None] = lambda _metrics, _own: None,
) -> Iterator[Session]:
    """Start or resume a sweep in a folder, which is locked against other sweeps meanwhile.

    pruner: of the network that is swept. asked: which levels are measured, as JSON values; they must be equal
    to resume the sweep. about: weights, command and title, stored with the figures. hire: gives workers that
    compute the levels elsewhere; None: this process does.
    Raises InputError where the folder holds a sweep with other settings.
    """
    network = pruner.network
    settings = fit(wanted.validation, network)
    device = select_device(settings.device)
    if not isinstance(data, Dataset):
        data = read_data(data, network, settings, progress=progress)
    stored = _about(about, data, settings)
    check_images(wanted.engines, bool(pruner.calibration))
    if any_by_time(wanted.methods):
        stored[PRICES] = as_record(pruner.price_curves())
    store = Store(folder)
    keep = keeper(wanted.save, store, wanted.engines[0])
    workers: AbstractContextManager[Workers | None] = nullcontext()
    if hire is not None:
        on_pruned = keep if wanted.save == ALL else None
        workers = hire(Order(pruner, wanted, settings, data.images, trainings, on_pruned, progress, say))
    # Workers come first: where there are none, nothing is written.
    with workers as hired, store.locked():
        identity = _identity(pruner, data, wanted, settings, asked, trainings)
        stored = store.begin(identity, stored)
        with writing_into(folder):
            write_annotations(folder, data.annotations)
        with Lanes(device) as lanes:
            job = Job(pruner, data, wanted, settings, store, stored, progress, say, on_level, workers=hired)
            if trainings is not None:
                job.train_seconds = trainings.seconds
            make = None if trainings is None else trainings.network
            maker = LevelMaker(pruner, wanted.methods, settings, wanted.compact, make, say)
            given = pruner, wanted.methods, wanted.engines, lanes, settings
            copies = Copies(*given, maker.prune, on_pruned=keep)
            yield Session(job, copies, stored, identity, trainings)


def _about(about: Mapping[str, Any], data: Dataset, settings: ValidationSettings) -> dict[str, Any]:
    """Return what, when, where and how a sweep was started, as JSON values."""
    return {
        "weights": about["weights"],
        "data": data.name,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": about["command"],
        "title": about["title"],
        "environment": describe_environment(select_device(settings.device), engine_packages()),
    }


def _identity(
    pruner: Pruner,
    dataset: Dataset,
    wanted: SweepSettings,
    settings: ValidationSettings,
    asked: Mapping[str, Any],
    trainings: Trainings | None,
) -> dict[str, Any]:
    """Return the settings that must be equal to resume a sweep, as JSON values."""
    return {
        **asked,
        "engines": [
            f"{name} {package_version(ENGINES[name].package)}" for name in dict.fromkeys(wanted.engines)
        ],
        "compact": wanted.compact,
        "methods": [method.label for method in dict.fromkeys(wanted.methods)],
        **({"engine_calibration": pruner.describe_images()} if need_images(wanted.engines) else {}),
        **pruner.identity(wanted.methods),
        "batch_sizes": list(wanted.batch_sizes),
        **describe_setup(pruner.network, dataset, settings),
        **({} if trainings is None else trainings.identity()),
    }
