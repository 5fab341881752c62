"""The driver of a sweep on a Ray cluster: it submits tasks, and submits those again whose worker died."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparsity.base.optional import optional_module
from sparsity.base.progress import progress_bar
from sparsity.cluster import tasks
from sparsity.cluster.connection import Cluster
from sparsity.cluster.files import Shipment, absolute, ship
from sparsity.cluster.runner import Runner, Task
from sparsity.cluster.tasks import Progress, Work
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.copies import Facts
from sparsity.sweeping.level import Level
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT
from sparsity.sweeping.trainings import Trainings
from sparsity.sweeping.workers import Times
from sparsity.training.run import BEST, EPOCHS, LAST, copy_files
from sparsity.validation.detector import RanIn
from sparsity.validation.passes import Archive


@dataclass(kw_only=True)
class _Task(Task):
    """The task of a level. ran_in: what it runs in, once a detection says so."""

    level: Level
    ran_in: RanIn | None = None


def _task(level: Level) -> _Task:
    return _Task(level.label, level=level)


class RayWorkers:
    """Computes the levels of a sweep on a cluster: each level is a task, or one for each engine.

    cluster: the connection. pruner: of the network that is swept, with its images. work: what tasks share.
    trainings: of the sweep; None for none. batches: the number of images in each batch.
    on_pruned: called with each pruned network and its level, if the networks are kept. progress: whether the
    trainings show a bar.
    """

    def __init__(
        self,
        cluster: Cluster,
        pruner: Pruner,
        work: Work,
        *,
        batches: Sequence[int],
        trainings: Trainings | None = None,
        on_pruned: Callable[[Level, Any], None] | None = None,
        progress: bool = False,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._progress = progress
        self._cluster, self._runner, self._say = cluster, Runner(cluster, say), say
        self._trainings = None if trainings is None else _absolute(trainings)
        self._batches, self._on_pruned = tuple(batches), on_pruned
        self._pruned: dict[Level, tuple[Any, Any]] = {}
        self._calibrates = work.calibrates
        work = replace(work, images=absolute(work.images))
        work = replace(work, shipment=self._shipment(work))
        self._work = cluster.ray.put(work)
        self._pruner = cluster.ray.put(pruner.on("cpu", progress=False))
        self._learned: Any = None

    def _shipment(self, work: Work) -> Shipment:
        """Return the files that some machine does not see."""
        paths = [image.path for image in work.images]
        if self._trainings is not None:
            start = self._trainings.start
            paths += [image.path for image in (*start.labelled, *start.unlabelled)]
            paths += tasks.checkpoints(self._trainings.how.material).values()
        missing = self._runner.missing(paths)
        if not missing:
            return Shipment()
        shipment = ship(missing, self._cluster.ray.put, self._cluster.ray.get)
        self._say(f"Shipping {len(missing)} files to machines that do not see them")
        return shipment

    def detect(
        self, levels: Sequence[Level], archive: Archive[Level], tick: Callable[[int], object]
    ) -> Iterator[tuple[Level, Facts, RanIn]]:
        """See Workers.detect."""

        def known(level: Level) -> frozenset[int]:
            return frozenset(n for n in range(len(self._batches)) if archive.has_found(level, n))

        def start(task: _Task) -> Any:
            pruned, _ = self._prune(task.level)
            return self._runner.remote(tasks.detect, num_returns="streaming").remote(
                self._work, self._pruner, pruned, task.level, known(task.level)
            )

        def take(task: _Task, item: Any) -> bool:
            if isinstance(item, RanIn):
                task.ran_in = item
                return False
            number, found = item
            archive.write_found(task.level, number, found)
            tick(self._batches[number])
            return True

        for level in levels:
            tick(sum(self._batches[number] for number in known(level)))
        waiting = [_task(level) for level in levels]
        for task in self._runner.run(waiting, start, take, forget=self._forget_task):
            facts, lines = self._runner.get([self._prune(task.level)[1]])[0]
            for line in lines:
                self._say(line)
            if self._on_pruned is not None:
                pruned = self._runner.get([self._prune(task.level)[0]])[0]
                self._on_pruned(pruned.level, pruned.network)
            assert task.ran_in is not None, "a task says first what it runs in"
            yield task.level, facts, task.ran_in

    def time(self, levels: Sequence[Level], batch_size: int) -> tuple[Times, str]:
        """See Workers.time. The task takes all cores and GPUs of one machine, so no other task runs there."""
        ray = self._cluster.ray
        attempts = Task("latency")
        while True:
            node = self._cluster.nodes[attempts.failures % len(self._cluster.nodes)]
            whole = {"num_cpus": node.cpus, "num_gpus": node.gpus if self._cluster.gpus else 0}
            task = ray.remote(_measure_time).options(**whole, **self._cluster.on_node(node), max_retries=0)
            try:
                pruned = {level.in_torch: self._prune(level) for level in levels}
                self._runner.get([facts for _, facts in pruned.values()])  # Pruning would disturb the timing.
                networks = {level: network for level, (network, _) in pruned.items()}
                given = self._work, self._pruner, tuple(levels), networks, batch_size
                return self._runner.get([task.remote(*given)])[0]
            except self._runner.lost as error:
                self._forget(levels)
                self._runner.count_failure(attempts, error, "measured again")

    def train(self, levels: Sequence[Level]) -> None:
        """See Workers.train. A level that is pruned from another one starts when that one is trained."""
        trainings = self._trainings
        assert trainings is not None, "there are trainings"
        waiting = [level for level in trainings.wanted(levels) if not trainings.is_trained(level)]
        given = self._cluster.ray.put(replace(trainings, say=_silent, progress=False))

        def start(task: _Task) -> Any:
            below = trainings.below(task.level)
            return self._runner.remote(tasks.train, num_returns="streaming").remote(
                self._work,
                given,
                task.level,
                _files(trainings.folder(task.level)),
                {} if below is None else _files(trainings.folder(below), (LAST, EPOCHS)),
            )

        def take(task: _Task, item: Progress) -> bool:
            copy_files(item.files, trainings.folder(task.level))
            for line in item.lines:
                self._say(f"{task.level.one_shot.label}: {line}")
            bar.update(bool(item.files))
            return bool(item.files)

        def ready() -> list[_Task]:
            now = [one for one in waiting if (b := trainings.below(one)) is None or trainings.is_trained(b)]
            waiting[:] = [one for one in waiting if one not in now]
            return [_task(level) for level in now]

        for level in trainings.wanted(levels):
            if trainings.is_trained(level):
                trainings.clear(level)
        epochs = len(waiting) * (trainings.how.settings.epochs or 0)
        with progress_bar(
            total=epochs, desc="Training", unit="epoch", shown=self._progress, leave=False
        ) as bar:
            for task in self._runner.run(ready(), start, take, more=ready, forget=self._forget_task):
                trainings.clear(task.level)

    def _forget_task(self, task: _Task) -> None:
        self._forget([task.level])

    def _forget(self, levels: Sequence[Level]) -> None:
        """Have the networks of levels pruned again: they can have been lost with the worker."""
        for level in levels:
            self._pruned.pop(level.in_torch, None)

    def _prune(self, level: Level) -> tuple[Any, Any]:
        """Return references to the pruned network of a level, and to its facts."""
        level = level.in_torch
        if level not in self._pruned:
            below = trained = None
            if level.stage == FINE_TUNED:
                assert self._trainings is not None, "a fine-tuned level has a training"
                trained = self._trainings.network(level)
            elif self._trainings is not None and (under := self._trainings.below(level)) and level.amount:
                below = self._trainings.network(under)
            retries = self._cluster.settings.retries
            task = self._runner.remote(tasks.prune, num_returns=2, max_retries=retries)
            pruner = self._learn() if level.amount and level.stage == ONE_SHOT and not below else self._pruner
            self._pruned[level] = tuple(task.remote(self._work, pruner, level, below, trained))
        return self._pruned[level]

    def _learn(self) -> Any:
        """Return a reference to the pruner, which has measured once what the methods need."""
        if self._learned is None:
            self._learned = self._pruner
            if self._calibrates:
                task = self._runner.remote(tasks.learn, max_retries=self._cluster.settings.retries)
                self._learned = task.remote(self._work, self._pruner)
        return self._learned


def _measure_time(
    work: Work, pruner: Pruner, levels: Sequence[Level], networks: Mapping[Level, Any], batch_size: int
) -> tuple[Times, str]:
    """Run on a worker: time the levels. networks: a reference to the pruned network of each."""
    ray = optional_module("ray", "`ray`")
    return tasks.measure_time(work, pruner, levels, lambda one: ray.get(networks[one]), batch_size)


def _absolute(trainings: Trainings) -> Trainings:
    """Return the trainings with absolute paths: a worker runs in another folder."""
    start, how = trainings.start, trainings.how
    files = {name: path.absolute() for name, path in tasks.checkpoints(how.material).items()}
    start = replace(start, labelled=absolute(start.labelled), unlabelled=absolute(start.unlabelled))
    return replace(trainings, start=start, how=replace(how, material=replace(how.material, **files)))


def _silent(_line: str) -> None:
    """Print nothing."""


def _files(folder: Path, names: Sequence[str] = ()) -> Mapping[str, bytes]:
    """Return the files of a training's folder: those with these names, or all that training needs."""
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.is_file() and file.name != BEST]
    return {file.name: file.read_bytes() for file in files if not names or file.name in names}
