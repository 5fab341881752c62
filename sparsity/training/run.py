"""A training run: its folder, a row for each epoch, the best and the last network, resuming."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes, write_text, writing_into
from sparsity.base.memory import is_out_of_memory
from sparsity.base.resumable import ResumableFolder
from sparsity.data.dataset import Dataset
from sparsity.formats.saving import save
from sparsity.pruning.zeros import count_sparsity
from sparsity.training.settings import TrainingSettings
from sparsity.training.sparse_training import SMALL, ScaleBin, histogram
from sparsity.training.tracking import LogEpoch, tracking
from sparsity.training.trainer import DivergedError, EpochLosses, Trainer
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import validate
from sparsity.yolo.network import Network, fuse

ABOUT, STATE = "training.json", "state.pt"
LAST, BEST, EPOCHS = "last.pt", "best.pt", "epochs.csv"


@dataclass(frozen=True)
class EpochRow:
    """A row of epochs.csv. Metrics are those of the average network; -1 if it was not validated.

    small_scales: the number of channels that could be cut (see ScalePenalty.count_small); -1 without sparse
    training.
    """

    epoch: int
    lr: float
    box: float
    objectness: float
    classes: float
    distillation: float
    sparsity_conv: float
    small_scales: int = -1
    P: float = -1.0
    R: float = -1.0
    mAP50: float = -1.0
    mAP50_95: float = -1.0
    AP: float = -1.0
    AP50: float = -1.0
    seconds: float = 0.0
    dfl: float = 0.0
    blocks: float = 0.0


class Run:
    """Trains epoch by epoch, and writes into a folder.

    The files are last.pt, best.pt and epochs.csv. training.json and state.pt are for resuming. Sparse
    training adds scales.csv: the distribution of the average network's scales after each epoch (0: before the
    first).

    dataset: the average network is validated on it after each epoch. None: no validation.
    before: the figures of the pruned network before the first step; empty without validation, with noval, and
    for random weights.
    command: the command line, for resuming by it; "" if there is none.
    identity: what two runs must have in common to be one. A folder with another identity is refused.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        dataset: Dataset | None,
        validation: ValidationSettings,
        identity: dict[str, Any],
    ) -> None:
        self.trainer, self.folder, self.dataset = trainer, folder, dataset
        self.validation, self.identity = validation, identity
        self._place = ResumableFolder(folder, ABOUT, "training", leftovers=(STATE,))
        self.rows: list[EpochRow] = []
        self.scales: list[ScaleBin] = []
        self.before: dict[str, float] = {}
        self.command = ""
        self._start: Network | None = None

    @property
    def settings(self) -> TrainingSettings:
        """The trainer's settings."""
        return self.trainer.settings

    @property
    def accelerator(self) -> Accelerator:
        """The trainer's accelerator."""
        return self.trainer.accelerator

    def resume(self) -> None:
        """Continue the folder's run. Raises InputError if there is none, or if its settings differ."""
        try:
            state = torch.load(self.folder / STATE, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{self.folder}: holds no training to go on with (no {STATE})") from None
        except Exception as error:
            raise InputError(f"{self.folder / STATE}: cannot be read; start a new run") from error
        self._place.resume(self.identity)
        self.rows = [EpochRow(**row) for row in state["rows"]]
        self.scales = [ScaleBin(**one) for one in state["scales"]]
        self.before = state.get("before", {})
        self.trainer.load_state(state["trainer"])

    def run(
        self,
        *,
        progress: bool = False,
        say: Callable[[str], None] = lambda _line: None,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the last epoch, or until patience ends.

        say: called with each line about the progress.
        on_epoch: called by the main process after each epoch, once its files are written.
        If the accelerator has a tracker, it logs the settings and the row of each epoch.
        Raises InputError if a loss is not finite or a batch does not fit into memory. The files are then
        those of the epoch before.
        """
        config = {**self.identity, **asdict(self.settings), "command": self.command}
        resuming = bool(self.rows)
        with tracking(self.accelerator, self.folder, config, say, resuming=resuming) as log:
            self._train(progress, say, on_epoch, log)

    def _train(
        self, progress: bool, say: Callable[[str], None], on_epoch: Callable[[], None], log: LogEpoch
    ) -> None:
        if self.trainer.penalty is not None and not self.scales:
            self.scales += histogram(self.trainer.penalty.scales(self.trainer.average.network), 0)
        if not self.rows and self.accelerator.is_main_process:
            self._validate_before(say)
        self.accelerator.wait_for_everyone()
        for epoch in range(len(self.rows), self.settings.epochs):
            if self._out_of_patience():
                say(f"Stopped after {epoch} epochs: no better AP for {self.settings.patience} epochs")
                break
            start = time.perf_counter()
            losses = self._run_epoch(epoch, progress)
            row: list[EpochRow | None] = [None]
            if self.accelerator.is_main_process:
                row = [self._make_row(epoch, losses, start)]
            broadcast_object_list(row)
            self.rows.append(row[0])
            if self.accelerator.is_main_process:
                self._write()
                on_epoch()
                log(epoch + 1, _measured(self.rows[-1]))
                say(_format_row(self.rows[-1], self.settings.epochs))
                if self.trainer.penalty is not None:
                    say(self._format_scales())
            self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._compare_with_before(say)

    def _validate_before(self, say: Callable[[str], None]) -> None:
        """Measure the pruned network before the first step, and print its AP."""
        if self.dataset is None or self.settings.noval or self.identity.get("cfg"):
            return
        self.before = self._validate(self.trainer.average.network)
        if self._start_counts:
            self._start = copy.deepcopy(self.trainer.average.network)
        say(f"before training: AP {self.before['AP']:.3f} AP50 {self.before['AP50']:.3f}")

    def _compare_with_before(self, say: Callable[[str], None]) -> None:
        """Print a warning where no epoch reached the AP from before the training."""
        best = max((row.AP for row in self._counting), default=-1.0)
        if self.before and 0 <= best < self.before["AP"]:
            say(
                f"WARNING: training did not help: AP was {self.before['AP']:.3f} before it, and is "
                f"{best:.3f} in its best epoch; a smaller learning rate, or more steps, may help"
                + (f"; {BEST} is the network from before" if self._start_counts else "")
            )

    @property
    def _start_counts(self) -> bool:
        """Whether the network from before the training can be the best: it has its zeros already."""
        return not self.settings.gradual and not self.settings.sparse_train

    @property
    def _counting(self) -> list[EpochRow]:
        """The epochs of which one is the best: those after a gradual schedule, which begin with all zeros.

        There is always one: while a gradual schedule runs, it is the last epoch.
        """
        return self.rows[self.settings.gradual if self.settings.amount else 0 :] or self.rows[-1:]

    def _run_epoch(self, epoch: int, progress: bool) -> EpochLosses:
        try:
            return self.trainer.run_epoch(epoch, progress=progress)
        except DivergedError as error:
            reason = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = self._does_not_fit()
        kept = f"last.pt is that of epoch {epoch}" if self.rows else "nothing was saved"
        raise InputError(f"epoch {epoch + 1}: {reason}; {kept}")

    def _does_not_fit(self) -> str:
        settings = self.settings
        return (
            f"`batch_size` is {settings.batch_size}, but the memory of {self.accelerator.device} cannot hold "
            f"a step on this many images of {settings.imgsz} x {settings.imgsz}; give a smaller one, which "
            f"trains the same (gradients are accumulated to `nominal_batch` {settings.nominal_batch}), or a "
            "smaller `imgsz`"
        )

    def _make_row(self, epoch: int, losses: EpochLosses, start: float) -> EpochRow:
        network = self.trainer.average.network
        skipped = self.settings.noval and epoch + 1 < self.settings.epochs
        figures = {} if self.dataset is None or skipped else self._validate(network)
        return EpochRow(
            epoch + 1,
            self.trainer.rate,
            losses.box,
            losses.objectness,
            losses.classes,
            losses.distillation,
            count_sparsity(network).conv,
            self._record_scales(epoch + 1),
            seconds=time.perf_counter() - start,
            dfl=losses.dfl,
            blocks=losses.blocks,
            **figures,
        )

    def _record_scales(self, epoch: int) -> int:
        """Add the distribution of the scales. Returns how many are small, -1 without sparse training."""
        penalty, network = self.trainer.penalty, self.trainer.average.network
        if penalty is None:
            return -1
        self.scales += histogram(penalty.scales(network), epoch, self.scales[-1].high)
        return penalty.count_small(network)

    def _format_scales(self) -> str:
        penalty = self.trainer.penalty
        median = float(penalty.scales(self.trainer.average.network).median())
        return (
            f"  scales: {self.rows[-1].small_scales} of {penalty.free} free channels could be cut now (scale "
            f"below {SMALL:.0%} of the largest in the layer); median {median:.4f}"
        )

    def _write(self) -> None:
        """Save the average network and the state. epochs.csv is written last."""
        network = self.trainer.average.network
        save(network, self.folder / LAST)
        self._write_best(network)
        rows = [asdict(row) for row in self.rows]
        scales = [asdict(one) for one in self.scales]
        state = {
            "rows": rows,
            "scales": scales,
            "before": self.before,
            "trainer": self.trainer.state(),
        }
        # Into memory first: where the disk is full, torch.save raises an error that does not say so.
        content = io.BytesIO()
        torch.save(state, content)
        if len(rows) == 1:
            self._place.begin(self.identity, command=self.command)
        with writing_into(self.folder):
            write_bytes(self.folder / STATE, content.getbuffer())
            if scales:
                write_text(self.folder / "scales.csv", pd.DataFrame(scales).to_csv(index=False))
            write_text(self.folder / EPOCHS, pd.DataFrame(rows).to_csv(index=False))

    def _write_best(self, network: Network) -> None:
        """Save the network of the last epoch as the best, if it is. After the first one, the start can be."""
        start, self._start = self._start, None
        others = [row.AP for row in self._counting]
        if self.before and self._start_counts:
            others.append(self.before["AP"])
        if max(others) <= self.rows[-1].AP:
            save(network, self.folder / BEST)
        elif start is not None:
            save(start, self.folder / BEST)

    def _validate(self, network: Network) -> dict[str, float]:
        """Return the metrics that val_sparse.py gives for the file: with the batch norms folded in."""
        fused = fuse(copy.deepcopy(network).cpu())
        metrics = validate(fused, self.dataset, self.validation).metrics
        wanted = {field.name for field in fields(EpochRow)} - {"seconds", "sparsity_conv", "small_scales"}
        return {name: value for name, value in asdict(metrics).items() if name in wanted}

    def _out_of_patience(self) -> bool:
        if self.dataset is None or not self.rows or self.settings.noval:
            return False
        best = max(self._counting, key=lambda row: (row.AP, row.epoch))
        return len(self.rows) - best.epoch >= self.settings.patience


def _measured(row: EpochRow) -> dict[str, float]:
    """Return the figures of a row, without those that were not measured."""
    return {name: value for name, value in asdict(row).items() if name != "epoch" and value != -1}


def copy_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a training that ran elsewhere, in the order in which a run writes them.

    A process that is killed between two of them leaves a training that can be resumed, or none: a state has
    its training.json, and an epoch in epochs.csv has its state and its networks. Raises InputError where a
    file can't be written.
    """
    last = (ABOUT, STATE, EPOCHS)
    for name in sorted(files, key=lambda name: last.index(name) if name in last else -1):
        write_bytes(folder / name, files[name])


def forget_state(folder: Path) -> None:
    """Delete the files in a finished training's folder that only resuming needs."""
    for name in (ABOUT, STATE):
        (folder / name).unlink(missing_ok=True)


def _format_row(row: EpochRow, epochs: int) -> str:
    parts = {"box": row.box, "obj": row.objectness, "dfl": row.dfl, "cls": row.classes}
    parts |= {"distil": row.distillation, "blocks": row.blocks}
    losses = " ".join(f"{name} {value:.4f}" for name, value in parts.items() if value)
    figures = f" AP {row.AP:.3f} AP50 {row.AP50:.3f}" if row.AP >= 0 else ""
    return (
        f"epoch {row.epoch}/{epochs}: {losses}{figures} sparsity {row.sparsity_conv:.3f} "
        f"lr {row.lr:.5f} {row.seconds:.0f} s"
    )
