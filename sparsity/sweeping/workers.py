"""The interface of what computes the levels of a sweep elsewhere, such as on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from sparsity.data.dataset import DatasetImage
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.copies import Facts
from sparsity.sweeping.level import Level
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.trainings import Trainings
from sparsity.validation.detector import RanIn
from sparsity.validation.passes import Archive
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network

Times = list[dict[str, list[float]]]
"""The milliseconds of every run by the level's key, for each group of levels that took turns."""


class Workers(Protocol):
    """Prunes, detects, times and trains elsewhere. What comes back is written here, by one process."""

    def detect(
        self, levels: Sequence[Level], archive: Archive[Level], tick: Callable[[int], object]
    ) -> Iterator[tuple[Level, Facts, RanIn]]:
        """Detect with these levels on all images; yield each level whose detections are all in the archive.

        Batches that are in the archive already are left out. tick: called with the number of images after
        each batch.
        """

    def time(self, levels: Sequence[Level], batch_size: int) -> tuple[Times, str]:
        """Time levels in turns while nothing else runs there. Returns the times, and the device's name."""

    def train(self, levels: Sequence[Level]) -> None:
        """Train these fine-tuned levels; their files are in the folder afterwards."""


@dataclass(frozen=True)
class Order:
    """A sweep whose levels are to be computed elsewhere.

    pruner: of the network that is swept. settings: of the validations, as fit returns them. images: those to
    validate on. trainings: of the levels; None for none. on_pruned: called with each pruned network and its
    level, in torch; None where nobody keeps them. progress: whether bars are shown. say: called with each
    line to print.
    """

    pruner: Pruner
    wanted: SweepSettings
    settings: ValidationSettings
    images: tuple[DatasetImage, ...]
    trainings: Trainings | None = None
    on_pruned: Callable[[Level, Network], None] | None = None
    progress: bool = False
    say: Callable[[str], None] = field(default=lambda _line: None)


HireWorkers = Callable[[Order], AbstractContextManager[Workers]]
"""Gives workers for a sweep while it runs."""
