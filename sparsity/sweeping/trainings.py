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
    progress: whether bars are shown. say: called with each line to print. on_epoch: called after each epoch,
    once the files of the training are written.
    """

    how: Finetuning
    start: Start
    pruner: Pruner
    store: Store
    levels: Sequence[Level]
    engine: str = TORCH
    progress: bool = False
    say: Callable[[str], None] = lambda _line: None
    on_epoch: Callable[[], None] = lambda: None

    def train(self, levels: Sequence[Level]) -> None:
        """Train the fine-tuned ones of these levels that are not trained yet, and clear their folders."""
        for level in self.wanted(levels):
            self._ensure(level)

    def wanted(self, levels: Sequence[Level]) -> list[Level]:
        """Return the fine-tuned ones of these levels, and those that they are pruned from, smallest first."""
        found: dict[Level, None] = {}
        for level in levels:
            one = self._place(level) if level.stage == FINE_TUNED else None
            while one is not None:
                found[one] = None
                one = self.below(one)
        return sorted(found, key=lambda one: one.amount)

    def network(self, level: Level) -> Network:
        """Return the fused network of a pruned level, which is trained first if it has to be."""
        if level.stage == ONE_SHOT:
            return self._one_shot(level)
        self._ensure(level)
        return load(self.folder(level) / LAST, fused=True)

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
        if not self.is_trained(level):
            below = self.below(level)
            if below is not None:
                self._ensure(below)
            self.train_one(level)
        self.clear(level)

    def clear(self, level: Level) -> None:
        """Delete what a finished training does not need any more."""
        folder = self.folder(level)
        forget_state(folder)
        (folder / BEST).unlink(missing_ok=True)  # No epoch was validated, so it is the last one's.

    def train_one(self, level: Level) -> None:
        """Train a level, or go on with its training. The one that it is pruned from is trained already."""
        folder = self.folder(level)
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
            run.run(progress=self.progress, say=self.say, on_epoch=self.on_epoch)
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
            self.folder(level),
            start=start,
            resuming=resuming,
        )

    def _one_shot(self, level: Level) -> Network:
        """Return the fused, pruned network of a level. It is the same each time."""
        below = self.below(level)
        return one_shot_network(self.pruner, level, None if below is None else self.network(below))

    def _unfused(self, level: Level) -> Network:
        """Return what a level is pruned from, with its batch norms."""
        below = self.below(level)
        if below is None:
            return copy.deepcopy(self.start.network)
        return load(self.folder(below) / LAST, fused=False)

    def below(self, level: Level) -> Level | None:
        """Return the fine-tuned level that a level is pruned from; None if that is the dense network."""
        if self.how.prune_from != BELOW:
            return None
        smaller = [one for one in self.levels if one.method == level.method and 0 < one.amount < level.amount]
        if not smaller:
            return None
        return self._place(replace(max(smaller, key=lambda one: one.amount), stage=FINE_TUNED))

    def is_trained(self, level: Level) -> bool:
        """Whether all epochs of a level's training are in its folder."""
        rows = self._rows(level)
        finished = rows is not None and len(rows) >= self.how.settings.epochs
        return finished and (self.folder(level) / LAST).is_file()

    def _rows(self, level: Level) -> pd.DataFrame | None:
        try:
            return pd.read_csv(self.folder(level) / EPOCHS)
        except (OSError, ValueError):
            return None

    def _place(self, level: Level) -> Level:
        """Return the level in the first engine: the engines share its network, which lies in that folder."""
        return replace(level, engine=self.engine)

    def folder(self, level: Level) -> Path:
        """Return the folder of a level's training."""
        return self.store.folder / "levels" / self._place(level).key / FOLDER


def one_shot_network(pruner: Pruner, level: Level, below: Network | None = None) -> Network:
    """Return the fused, pruned network of a level. It is the same each time.

    below: the fused, fine-tuned network that it is pruned from, whose zeros stay; None for the dense one.
    """
    if below is None:
        return pruner.prune(level.method, level.amount)
    pruned = pruner.of(below).prune(level.method, level.amount)
    nonzero_masks(below).apply(pruned)
    return pruned


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
