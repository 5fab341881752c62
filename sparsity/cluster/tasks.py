"""What a worker does: learn, prune, detect, time and train. It writes nothing into the sweep's folder."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sparsity.base.devices import select_device
from sparsity.cluster.files import Shipment, localise
from sparsity.data.dataset import DatasetImage
from sparsity.engines.making import make_engines
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.copies import Copies, Facts, LevelMaker, PrunedLevel, ready
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.level import Level
from sparsity.sweeping.level_latency import time_levels
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import Store
from sparsity.sweeping.trainings import Trainings, one_shot_network
from sparsity.sweeping.workers import Times
from sparsity.training.preparation import NO_TEACHER, Material
from sparsity.validation.detector import Lanes, RanIn
from sparsity.validation.inputs import make_loader
from sparsity.validation.passes import Found, detect_batch
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class Work:
    """What all tasks of a sweep share.

    images: those to validate on. shipment: the files that a machine may lack. settings: as fit returns them.
    threads: of a task.
    """

    wanted: SweepSettings
    settings: ValidationSettings
    images: tuple[DatasetImage, ...]
    shipment: Shipment
    threads: int

    @property
    def device(self) -> str:
        """The device of a task, as a user gives it: "cpu", or the GPU that Ray lets the task see."""
        return "cpu" if self.settings.device == "cpu" else ""

    def begin(self) -> torch.device:
        """Set the number of threads, and return the device."""
        torch.set_num_threads(self.threads)
        return select_device(self.device)

    @property
    def calibrates(self) -> bool:
        """Whether a method needs calibration images."""
        return any(method.needs_calibration for method in self.wanted.methods)


def learn(work: Work, pruner: Pruner) -> Pruner:
    """Return the pruner after it measured what the methods need."""
    here = pruner.on(work.begin(), progress=False)
    here.learn(work.wanted.methods)
    return here.on("cpu", progress=False)


def prune(
    work: Work, pruner: Pruner, level: Level, below: Network | None, trained: Network | None
) -> tuple[PrunedLevel, tuple[Facts, list[str]]]:
    """Return the pruned network of a level, and its facts with the lines to print.

    below: the fine-tuned network that it is pruned from; None for the dense one. trained: the network itself,
    where it was trained already.
    """
    lines: list[str] = []
    here, wanted = pruner.on(work.begin(), progress=False), work.wanted

    def make(level: Level) -> Network:
        return one_shot_network(here, level, below) if trained is None else trained

    maker = LevelMaker(here, wanted.methods, work.settings, wanted.compact, make, lines.append)
    pruned = maker.prune(level)
    return pruned, (pruned.facts, lines)


def detect(
    work: Work, pruner: Pruner, pruned: PrunedLevel, level: Level, known: frozenset[int]
) -> Iterator[RanIn | tuple[int, Found]]:
    """Yield what runs the level; then the number of each batch, and what was found in it.

    known: the numbers of batches that are left out.
    """
    device = work.begin()
    images = localise(work.images, work.shipment)
    engine = make_engines([level.engine], pruner.calibration)[level.engine]
    with Lanes(device) as lanes:
        detector = ready(pruned, lanes, work.settings, engine).detector
        yield detector.ran_in
        loader = make_loader(images, pruned.network, work.settings)
        for number, batch in enumerate(loader.iterate(without_pixels=known)):
            if number not in known:
                yield number, detect_batch(detector, batch)


def measure_time(
    work: Work,
    pruner: Pruner,
    levels: Sequence[Level],
    fetch: Callable[[Level], PrunedLevel],
    batch_size: int,
) -> tuple[Times, str]:
    """Return what Workers.time does. fetch: returns the pruned network of a level, which it has already."""
    device = work.begin()
    wanted, settings = work.wanted, work.settings
    with Lanes(device) as lanes:
        here = pruner.on(device, progress=False)
        copies = Copies(here, wanted.methods, wanted.engines, lanes, settings, fetch)
        times = time_levels(copies, levels, batch_size, settings.imgsz, wanted.rounds, lambda *_: None)
        return times, lanes.device_name


@dataclass(frozen=True)
class Progress:
    """What comes back of a training: lines to print, and the files of its folder, whole ones, by their names.

    without files: nothing was finished since the last time.
    """

    lines: tuple[str, ...]
    files: Mapping[str, bytes]


def train(
    work: Work,
    trainings: Trainings,
    level: Level,
    files: Mapping[str, bytes],
    below: Mapping[str, bytes],
) -> Iterator[Progress]:
    """Train a level, or go on with it; yield its files after each epoch.

    trainings: of the sweep, with the pruner. files: those of the level's training so far. below: those of the
    level that it is pruned from.
    """
    device = work.begin()
    done: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="sparsity-train-") as place, ThreadPoolExecutor(1) as pool:
        lines: list[str] = []

        def report() -> None:
            content = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
            said, lines[:] = tuple(lines), []
            done.put(Progress(said, content))

        here = replace(
            trainings,
            store=Store(Path(place)),
            pruner=trainings.pruner.on(device, progress=False),
            start=replace(
                trainings.start,
                labelled=localise(trainings.start.labelled, work.shipment),
                unlabelled=localise(trainings.start.unlabelled, work.shipment),
            ),
            how=_on_this_machine(trainings.how, work),
            say=lines.append,
            on_epoch=report,
            progress=False,
        )
        folder = here.folder(level)
        _put(folder, files)
        if under := here.below(level):
            _put(here.folder(under), below)
        running = pool.submit(here.train_one, level)
        running.add_done_callback(lambda _future: done.put(None))
        while (progress := done.get()) is not None:
            yield progress
        running.result()
        yield Progress(tuple(lines), {})


def checkpoints(material: Material) -> dict[str, Path]:
    """Return the checkpoints that a training reads, by the names of the material's fields."""
    named = {name: str(getattr(material, name)) for name in ("weights", "teacher")}
    return {name: Path(file) for name, file in named.items() if file not in ("", NO_TEACHER)}


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _on_this_machine(how: Finetuning, work: Work) -> Finetuning:
    """Return the trainings with the files and the device of this machine."""
    local = {name: work.shipment.local(path) for name, path in checkpoints(how.material).items()}
    device = replace(how.device, device=work.device)
    return replace(how, material=replace(how.material, **local), device=device)
