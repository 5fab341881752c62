"""The trainings of a sweep's levels: each in the level's folder, resumed to the epoch, then cleared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.base.files import writing_into
from sparsity.engines.table import TORCH
from sparsity.formats.loading import load
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.defaults import BELOW
from sparsity.sweeping.finetuning import Finetuning, of_training
from sparsity.sweeping.level import Level
from sparsity.sweeping.stages import FINE_TUNED, ONE_SHOT
from sparsity.sweeping.store import Store
from sparsity.training.masks import nonzero_masks
from sparsity.training.preparation import Start, join_processes, make_run, open_start, training_identity
from sparsity.training.run import BEST, EPOCHS, LAST, STATE, Run, forget_state
from sparsity.validation.setup import network_digest
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network, fuse, take_over

FOLDER = "train"
"""The folder of a level's training, in the level's folder."""
_LEFT_OUT = ("cfg", "amount", "gradual", "noval", "sparse_train", "sparse_recipe", "tied", "calib_images")
_METHOD = ("criterion", "scope", "budget", "depthwise", "weights", "head")
"""What a training's identity holds, but the trainings of a sweep do not have, or have from the sweep."""


@dataclass(frozen=True)
class Trainings:
    """Makes the networks of a sweep's levels, before and after training.

    how: the trainings. start: the unpruned network, with its batch norms, and the training images.
    pruner: of the same network, fused. store: of the sweep in whose folder the levels are trained.
    levels: those of the sweep; with "below", a level is pruned from the next smaller one of them. engine: the
    first of the sweep, in whose folders the levels are trained.
    progress: whether bars are shown. say: called with each line to print.
    """

    how: Finetuning
    start: Start
    pruner: Pruner
    store: Store
    levels: Sequence[Level]
    engine: str = TORCH
    progress: bool = False
    say: Callable[[str], None] = lambda _line: None

    def train(self, levels: Sequence[Level]) -> None:
        """Train the fine-tuned ones of these levels that are not trained yet, and clear their folders."""
        wanted = dict.fromkeys(self._place(level) for level in levels if level.stage == FINE_TUNED)
        for level in sorted(wanted, key=lambda one: one.amount):
            self._ensure(level)

    def network(self, level: Level) -> Network:
        """Return the fused network of a pruned level, which is trained first if it has to be."""
        if level.stage == ONE_SHOT:
            return self._one_shot(level)
        self._ensure(level)
        return load(self._folder(level) / LAST, fused=True)

    def seconds(self, level: Level) -> float:
        """Return the time that the training of a level took; 0 for a level that is not trained."""
        rows = self._rows(level) if level.stage == FINE_TUNED else None
        return 0.0 if rows is None else float(rows.seconds.sum())

    def identity(self) -> dict[str, Any]:
        """Return what two sweeps with training must have in common, as JSON values."""
        images = self.start.labelled, self.start.unlabelled
        found = training_identity(self.how.material, self.how.settings, *images)
        kept = {name: value for name, value in found.items() if name not in (*_LEFT_OUT, *_METHOD)}
        return {f"finetune_{name}": value for name, value in kept.items()} | {
            "finetune_prune_from": self.how.prune_from
        }

    def _ensure(self, level: Level) -> None:
        """Train a level, and those that it is pruned from, where that is not done, and clear its folder."""
        if not self._is_trained(level):
            below = self._below(level)
            if below is not None:
                self._ensure(below)
            self._train(level)
        folder = self._folder(level)
        forget_state(folder)
        (folder / BEST).unlink(missing_ok=True)  # No epoch was validated, so it is the last one's.

    def _train(self, level: Level) -> None:
        folder = self._folder(level)
        with writing_into(self.store.folder):
            folder.mkdir(parents=True, exist_ok=True)
        resuming = (folder / STATE).exists()
        self.say(f"Training ({level.one_shot.label}) {'goes on' if resuming else 'starts'}")
        network = self._unfused(level)
        if not resuming:
            network = take_over(network, self._one_shot(level.one_shot))
        try:
            run = self._make_run(level, replace(self.start, network=network), resuming=resuming)
            if resuming:
                run.resume()
            run.run(progress=self.progress, say=self.say)
        except InputError as error:
            raise InputError(f"training of {level.one_shot.label}: {of_training(str(error))}") from error

    def _make_run(self, level: Level, start: Start, *, resuming: bool) -> Run:
        settings = self.how.settings
        # Weights that were updated for the statistics of the batch norms depend on them, as in finetune.
        frozen = settings.freeze_bn or level.method.resolved.updates_weights
        return make_run(
            self.how.material,
            replace(settings, freeze_bn=frozen),
            self.how.device,
            self._folder(level),
            start=start,
            resuming=resuming,
        )

    def _one_shot(self, level: Level) -> Network:
        """Return the fused, pruned network of a level. It is the same each time."""
        below = self._below(level)
        if below is None:
            return self.pruner.prune(level.method, level.amount)
        trained = self.network(below)
        pruned = self.pruner.of(trained).prune(level.method, level.amount)
        nonzero_masks(trained).apply(pruned)
        return pruned

    def _unfused(self, level: Level) -> Network:
        """Return what a level is pruned from, with its batch norms."""
        below = self._below(level)
        if below is None:
            return copy.deepcopy(self.start.network)
        return load(self._folder(below) / LAST, fused=False)

    def _below(self, level: Level) -> Level | None:
        """Return the fine-tuned level that a level is pruned from; None if that is the dense network."""
        if self.how.prune_from != BELOW:
            return None
        smaller = [one for one in self.levels if one.method == level.method and 0 < one.amount < level.amount]
        if not smaller:
            return None
        return replace(max(smaller, key=lambda one: one.amount), stage=FINE_TUNED)

    def _is_trained(self, level: Level) -> bool:
        rows = self._rows(level)
        finished = rows is not None and len(rows) >= self.how.settings.epochs
        return finished and (self._folder(level) / LAST).is_file()

    def _rows(self, level: Level) -> pd.DataFrame | None:
        try:
            return pd.read_csv(self._folder(level) / EPOCHS)
        except (OSError, ValueError):
            return None

    def _place(self, level: Level) -> Level:
        """Return the level in the first engine: the engines share its network, which lies in that folder."""
        return replace(level, engine=self.engine)

    def _folder(self, level: Level) -> Path:
        return self.store.folder / "levels" / self._place(level).key / FOLDER


def open_trainings(
    how: Finetuning,
    pruner: Pruner,
    store: Store,
    levels: Sequence[Level],
    engine: str,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> Trainings:
    """Read what the trainings of a sweep share: the network with its batch norms, and the training images.

    Raises InputError for a network without batch norms, another one than the pruner's, or data without
    training images.
    """
    join_processes(how.device)
    start = open_start(how.material, how.settings, progress=progress)
    swept = pruner.network
    if held_heads(swept) and held_heads(start.network) != held_heads(swept):
        keep_head(start.network, swept.head.branch)
    if network_digest(fuse(copy.deepcopy(start.network))) != network_digest(swept):
        raise InputError(
            f"{how.material.weights}: is not the network that is swept; the checkpoint that it was loaded "
            "from is expected for its training"
        )
    return Trainings(how, start, pruner, store, levels, engine, progress, say)
