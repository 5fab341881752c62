"""The training loop: epochs, masks, the average of the weights and losses. It reads and writes no files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from sparsity.base.devices import usable_cores
from sparsity.base.errors import InputError
from sparsity.base.progress import progress_bar
from sparsity.data.training import TrainingImages, collate
from sparsity.pruning.imitation import BlockOutputs, blocks_error
from sparsity.pruning.layers import convolutions
from sparsity.pruning.price_curves import MeasurePrices
from sparsity.training.batches import BATCHES_AHEAD, ThreadedImages, read_ahead
from sparsity.training.ema import Average
from sparsity.training.lessons import lesson_of
from sparsity.training.masks import Masks, nonzero_masks
from sparsity.training.optimizer import make_optimizer, set_rates
from sparsity.training.pruning import cubic_amount, method_of, prune_unfused
from sparsity.training.settings import TrainingSettings
from sparsity.training.sparse_training import ScalePenalty
from sparsity.yolo.network import Network

CLIP_NORM = 10.0
BLOCK_TURNS = 2
"""Each batch compares every second block with the teacher's, in turns: half the memory traffic of it."""
GRADUAL_STEPS = 40
"""The number of steps in which a gradual schedule raises the sparsity."""


class DivergedError(InputError):
    """A loss is nan or infinite."""


@dataclass
class EpochLosses:
    """Losses of an epoch, and the number of images in it: all of them, and those with labels.

    blocks: of the blocks' outputs against the teacher's. A loss that the family does not have is 0:
    objectness, or dfl (of the sides of boxes).
    """

    box: float = 0.0
    objectness: float = 0.0
    classes: float = 0.0
    distillation: float = 0.0
    images: int = 0
    labelled: int = 0
    dfl: float = 0.0
    blocks: float = 0.0

    def add(self, parts: dict[str, Tensor], images: int, labelled: int) -> None:
        """Add a batch, whose losses are sums over its images."""
        self.images += images
        self.labelled += labelled
        for name, value in parts.items():
            setattr(self, name, getattr(self, name) + float(value.detach()))

    def mean(self) -> EpochLosses:
        """Return the mean losses: distillation and blocks per image, all others per labelled image."""
        images, labelled = max(1, self.images), max(1, self.labelled)
        found = (value / labelled for value in (self.box, self.objectness, self.classes))
        counts = self.images, self.labelled
        return EpochLosses(
            *found, self.distillation / images, *counts, self.dfl / labelled, self.blocks / images
        )


class EpochSampler(Sampler[int]):
    """All indices, in an order that depends only on seed and epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class _Outputs:
    """The outputs of a network for a batch: its raw maps, and those of the blocks that are compared."""

    raw: Sequence[Tensor]
    maps: Sequence[Tensor]


@dataclass
class Trainer:
    """A network in training.

    network: with its batch norms. It is trained in place. Methods that need images have already pruned it;
    other methods prune it here.
    teacher: a dense network whose raw maps the student learns to match. Images without labels need one.
    price_curves: see Pruner; budget "latency" needs them. rate: the learning rate of the last step.
    """

    network: Network
    images: TrainingImages
    settings: TrainingSettings
    accelerator: Accelerator
    teacher: Network | None = None
    price_curves: MeasurePrices | None = None
    masks: Masks = field(init=False)
    rate: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        settings, self._pruned_to, self._progress = self.settings, 0, 0.0
        self.masks = nonzero_masks(self.network)
        self._method = method_of(settings)
        if settings.amount and not settings.gradual and not self._method.needs_calibration:
            self.masks = self._prune(settings.amount)
        self.penalty = self._make_penalty()
        self.average = Average(self.network)
        self.network.requires_grad_(True).to(memory_format=torch.channels_last)
        self._sampler = EpochSampler(len(self.images), settings.seed)
        optimizer = make_optimizer(self.network, settings)
        prepared = self.accelerator.prepare(self.network, optimizer, self._make_loader())
        self.model, self.optimizer, self._loader = prepared
        self.average.network.to(self.accelerator.device)
        if self.teacher is not None:
            self.teacher = self.teacher.eval().requires_grad_(False).to(self.accelerator.device)
        self._imitates = bool(settings.blocks) and _same_layers(self.network, self.teacher)
        lesson, head = lesson_of(self.network), self.network.head
        self._loss, self._distil = lesson.losses(head, settings.imgsz), lesson.distil(head)

    def _prune(self, amount: float) -> Masks:
        about = {"depthwise": self.settings.depthwise, "imgsz": self.settings.imgsz}
        return prune_unfused(self.network, self._method, amount, self.price_curves, **about)

    def _make_penalty(self) -> ScalePenalty | None:
        s = self.settings
        if not s.sparse_train:
            return None
        return ScalePenalty(self.network, s.sparse_train, s.sparse_recipe, tied=s.tied, epochs=s.epochs)

    def _make_loader(self) -> DataLoader:
        return DataLoader(
            ThreadedImages(self.images, min(self.settings.workers, max(1, usable_cores() // 2))),
            batch_size=self.settings.batch_size,
            sampler=self._sampler,
            collate_fn=collate,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def run_epoch(self, epoch: int, *, progress: bool = False) -> EpochLosses:
        """Train on every image once. Returns the mean losses per image, of all processes.

        epoch: from 0. Raises DivergedError if a loss is nan or infinite. The average is then as it was after
        the last step.
        """
        self._start(epoch)
        losses, batches = EpochLosses(), len(self._loader)
        title = f"Epoch {epoch + 1}/{self.settings.epochs}"
        shown = progress and self.accelerator.is_main_process
        with closing(read_ahead(self._loader, BATCHES_AHEAD if self.settings.workers else 0)) as stream:
            bar = progress_bar(stream, total=batches, desc=title, unit="batch", shown=shown, leave=False)
            for number, (pixels, targets, labelled) in enumerate(bar):
                self._prune_gradually(epoch + number / batches)
                parts = self._backward(pixels, targets, labelled, number)
                losses.add(parts, len(pixels), labelled)
                if (number + 1) % self.settings.accumulate == 0 or number + 1 == batches:
                    # The rate is that of the step's end: the first step of a warm-up is not at rate 0.
                    moment = epoch + (number + 1) / batches
                    self.rate = set_rates(self.optimizer.optimizer, self.settings, moment)
                    self._step(epoch)
        return self._of_all(losses).mean()

    def _of_all(self, losses: EpochLosses) -> EpochLosses:
        """Return the sums over all processes."""
        summed = EpochLosses(*self._over_processes(*asdict(losses).values()))
        return replace(summed, images=round(summed.images), labelled=round(summed.labelled))

    def _start(self, epoch: int) -> None:
        """Set what depends on the epoch, and the network to training."""
        self._sampler.epoch = epoch
        self._progress = epoch / max(1, self.settings.epochs - 1)
        # accelerate counts epochs itself, from 0 in each process, and passes its count to the data set.
        self._loader.set_epoch(epoch)
        self.images.set_epoch(epoch)
        self.model.train()
        if self.settings.keeps_statistics:
            _freeze_statistics(self.model)

    @torch.no_grad()
    def measure(self, batches: int, epoch: int) -> float:
        """Return the mean loss per image of the first batches of an epoch. Nothing is learned.

        With several processes, these are the batches of all of them, and all get the same mean.
        """
        self._start(epoch)
        total, images = 0.0, 0
        for number, (pixels, targets, labelled) in enumerate(itertools.islice(self._loader, batches)):
            parts = self._forward(pixels, targets, labelled, number)
            total += sum(float(part) for part in parts.values())
            images += len(pixels)
        total, images = self._over_processes(total, images)
        return total / max(1, images)

    @property
    def steps(self) -> int:
        """The number of optimiser steps of the whole training."""
        return math.ceil(len(self._loader) / self.settings.accumulate) * self.settings.epochs

    def _backward(self, pixels: Tensor, targets: Tensor, labelled: int, turn: int) -> dict[str, Tensor]:
        parts = self._forward(pixels, targets, labelled, turn)
        total = torch.stack(list(parts.values())).sum()
        # All processes end together: one that goes on would wait for the others' gradients for good.
        (loss,) = self._over_processes(float(total.detach()))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss}: training diverged; {self._remedy()}")
        # Gradients of several processes are averaged; the recipes' learning rates expect their sum.
        self.accelerator.backward(total * self.accelerator.num_processes)
        return parts

    def _over_processes(self, *values: float) -> list[float]:
        """Return the sums of values over the processes, the same in each."""
        if self.accelerator.num_processes == 1:
            return list(values)
        # float32: not every device has float64.
        summed = torch.tensor(values, dtype=torch.float32, device=self.accelerator.device)
        return self.accelerator.reduce(summed, reduction="sum").tolist()

    def _forward(self, pixels: Tensor, targets: Tensor, labelled: int, turn: int) -> dict[str, Tensor]:
        """A batch, as collate gives it -> the parts of the loss. turn: its number, which chooses blocks."""
        device = self.accelerator.device
        images = pixels.to(device, non_blocking=True).float().div_(255)
        images = images.contiguous(memory_format=torch.channels_last)
        compared = {"active": self._imitates, "every": BLOCK_TURNS, "turn": turn}
        with BlockOutputs(self.network, **compared) as blocks, self.accelerator.autocast():
            found = _Outputs(self.model(images), blocks.take())
        wanted = None
        if self.teacher is not None:
            with (
                BlockOutputs(self.teacher, **compared) as blocks,
                torch.no_grad(),
                self.accelerator.autocast(),
            ):
                wanted = _Outputs(self.teacher.every_output(images), blocks.take())
        return self._losses(found, wanted, targets.to(device), labelled)

    def _remedy(self) -> str:
        """Return what to change after a training that diverged."""
        penalty = self.settings.sparse_train
        rate = f", a smaller `sparse_train` (it is {penalty:g})" if penalty else ""
        return f"give a smaller `lr0` (it is {self.settings.lr0:g}){rate} or a longer `warmup`"

    def _losses(
        self, found: _Outputs, wanted: _Outputs | None, targets: Tensor, labelled: int
    ) -> dict[str, Tensor]:
        """Return the parts of the loss.

        wanted: the outputs of the teacher, if there is one. labelled: how many of the images, the first
        ones, have labels.
        """
        parts: dict[str, Tensor] = {}
        if labelled:
            parts |= self._loss([x[:labelled] for x in found.raw], targets, self._progress)
        if wanted is not None:
            parts["distillation"] = self._distil(found.raw, wanted.raw) * self.settings.distil
        if wanted is not None and wanted.maps:
            error = blocks_error(found.maps, wanted.maps)
            parts["blocks"] = error * (self.settings.blocks * len(found.raw[0]))
        return parts

    def _step(self, epoch: int) -> None:
        self.masks.apply_to_gradients(self.network)
        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if self.penalty is not None:
            # Once per step and after clipping, so that its strength depends on neither batch size nor losses.
            self.penalty.add_to_gradients(self.network, epoch)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.masks.apply(self.network)
        self.average.update(self.network)
        self.masks.apply(self.average.network)

    def _prune_gradually(self, moment: float) -> None:
        """Raise the sparsity along the cubic schedule. Zeros stay zero: they are the smallest weights."""
        settings = self.settings
        if not settings.gradual or not settings.amount:
            return
        step = min(math.floor(moment / settings.gradual * GRADUAL_STEPS) + 1, GRADUAL_STEPS)
        if step != self._pruned_to:
            self._pruned_to = step
            amount = cubic_amount(step / GRADUAL_STEPS, settings.amount)
            self.masks = self._prune(amount)
            self.masks.apply(self.average.network)

    def state(self) -> dict[str, object]:
        """Return everything besides the settings that resuming needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "masks": self.masks.keep,
            "lr0": self.settings.lr0,
        }

    def load_state(self, state: dict) -> None:
        """Continue from a state that the method state returned."""
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.masks = Masks(state["masks"])
        self.settings = replace(self.settings, lr0=state.get("lr0", self.settings.lr0))


def _same_layers(network: nn.Module, teacher: nn.Module | None) -> bool:
    """Whether there is a teacher whose convolutions have the student's names and shapes."""
    if teacher is None:
        return False
    ours, theirs = (
        [(name, conv.weight.shape) for name, conv in convolutions(one)] for one in (network, teacher)
    )
    return ours == theirs


def _freeze_statistics(network: nn.Module) -> None:
    """Make batch norms use and keep their stored statistics. Scales and shifts still learn."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
