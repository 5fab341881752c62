"""Prepare a training run from checkpoints, images and settings."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from sparsity.base.devices import select_device, select_precision
from sparsity.base.errors import InputError
from sparsity.base.progress import say
from sparsity.data.dataset import Dataset, DatasetImage, identify, read_images
from sparsity.data.sources import Split, find_source
from sparsity.data.training import TrainingImages
from sparsity.formats.loading import load
from sparsity.pruning.budgets import LATENCY
from sparsity.pruning.price_curves import MeasurePrices, PriceCurve, digest
from sparsity.training.lessons import lesson_of
from sparsity.training.pruning import method_of, prune_by_images
from sparsity.training.rate_search import RATES, STEPS, find_rate
from sparsity.training.recipes import augmentation_of, complete, describe_augmentation, is_pruned
from sparsity.training.run import Run
from sparsity.training.settings import TrainingSettings
from sparsity.training.tracking import check_tracker
from sparsity.training.trainer import Trainer
from sparsity.validation.inputs import read_data
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.heads import choose_head, held_heads, keep_head
from sparsity.yolo.network import Network, build, fuse, has_norms

Location = str | PathLike[str]
PricesAt = Callable[[Network, int], Mapping[str, PriceCurve]]
"""Takes a fused network and the side of images in pixels; see Pruner's price_curves."""
NO_TEACHER = "none"
"""Stands for no teacher, where there would be one by default."""
_PRECISIONS = {torch.float32: "no", torch.float16: "fp16", torch.bfloat16: "bf16"}
"""Type -> accelerate's name for it."""


@dataclass(frozen=True)
class Material:
    """The checkpoints and images that a training uses.

    weights: the checkpoint to train on; or cfg, such as yolov5n or yolov8n, to start from random weights.
    data: labelled images (train and val of a data yaml, or a folder).
    images: a folder of images without labels, for distillation only, instead of data or in addition to it.
    teacher: the dense checkpoint to distil from; "" for weights itself, where the training prunes it;
    NO_TEACHER for none. ignore_names: see data.dataset.read_dataset.
    head: the branch of a YOLO26's head that is validated; "" for the one that runs by default.
    """

    weights: Location = ""
    cfg: str = ""
    data: Location = ""
    images: Location = ""
    teacher: Location = ""
    ignore_names: bool = False
    head: str = ""

    def __post_init__(self) -> None:
        """Raise InputError if something is missing or contradictory."""
        if bool(self.weights) == bool(self.cfg):
            raise InputError(
                "`weights` to train on a checkpoint, or `cfg`, such as yolov5n, to start from random "
                "weights: give one of the two"
            )
        if self.cfg and self.cfg not in sizes():
            raise InputError(f"`cfg` is {self.cfg!r}; one of {', '.join(sizes())} is expected")
        if self.cfg and not self.data:
            raise InputError("`cfg` needs `data`, which names the classes")
        if not self.data and not self.images:
            raise InputError(
                "`data` for labelled images, or `images` for images without labels: give one or both"
            )


@dataclass(frozen=True)
class Start:
    """A network that is pruned already, and the images to train it on: for trainings that share the images.

    network: with its batch norms. labelled, unlabelled: the images of Material's data and images. There is no
    validation between epochs.
    """

    network: Network
    labelled: tuple[DatasetImage, ...]
    unlabelled: tuple[DatasetImage, ...]


def open_start(material: Material, settings: TrainingSettings, *, progress: bool = False) -> Start:
    """Read the network of the material, and its training images. Raises InputError as make_run does."""
    network = _network(material, settings)
    return Start(network, *_training_images(material, network, progress))


def join_processes(validation: ValidationSettings) -> PartialState:
    """Join the processes that accelerate or torchrun launched, if any. Returns what is known about them."""
    return PartialState(cpu=select_device(validation.device).type == "cpu")


def from_main_process(path: Path | None) -> Path:
    """Return the main process's path, in every process."""
    return Path(broadcast_object_list([path])[0])


def make_run(
    material: Material,
    settings: TrainingSettings,
    validation: ValidationSettings,
    folder: Path,
    *,
    start: Start | None = None,
    resuming: bool = False,
    price_curves: PricesAt | None = None,
    log_with: str = "",
    progress: bool = False,
) -> Run:
    """Read all inputs, prune, and return the run. It writes into folder when it runs.

    start: what is trained, if it was read and pruned before; the settings then prune nothing.

    resuming: whether Run.resume is called next. It restores the pruned weights, so pruning by images is
    skipped. price_curves: measures the times of layers; budget "latency" needs it.
    log_with: a key of trackers.TRACKERS; "" for none.

    Raises InputError if an input cannot be used.
    """
    check_tracker(log_with)
    network = _network(material, settings) if start is None else start.network
    material = _with_teacher(material, pruning=bool(settings.amount) or start is not None)
    stride = network.largest_stride
    asked = replace(settings, imgsz=math.ceil(settings.imgsz / stride) * stride)
    validation = replace(validation, imgsz=asked.imgsz)
    teacher = _teacher(material, network) if material.teacher else None
    if start is None:
        (labelled, unlabelled), val = _data(material, network, progress)
    else:
        labelled, unlabelled, val = start.labelled, start.unlabelled, None
    # A start that is resumed gets its zeros only later, from the state.
    pruned = bool(asked.amount) or start is not None or is_pruned(network)
    settings = complete(asked, len(labelled) + len(unlabelled), pruned=pruned)
    augmented = describe_augmentation(augmentation_of(settings, network.trained_with))
    if settings.augment and augmented and progress:
        say(augmented)
    prices = _price_curves(network, settings, price_curves)
    known_prices = None if prices is None else (lambda _network: prices)
    if settings.amount and method_of(settings).needs_calibration and not resuming:
        device = select_device(validation.device)
        network = prune_by_images(
            network,
            (*labelled, *unlabelled),
            settings,
            device,
            progress=progress,
            price_curves=known_prices,
        )
        _take_weights_of_main(network)
    _check_norms(network, settings, len(labelled) + len(unlabelled))
    make = _TrainerMaker(
        network, labelled, unlabelled, _accelerator(validation, log_with, folder), teacher, known_prices
    )
    if settings.lr0 is None:
        settings = replace(
            settings, lr0=RATES[settings.optimizer][0] if resuming else make.find_rate(settings)
        )
    trainer = make.trainer(settings)
    identity = training_identity(material, asked, labelled, unlabelled)
    if prices is not None and settings.gradual:  # Otherwise, the state to resume from holds all masks.
        identity["price_curves"] = digest(prices)
    return Run(trainer, folder, val, validation, identity)


@dataclass(frozen=True)
class _TrainerMaker:
    """Makes the trainer, and those of the trials before it, of the same network and images.

    The fields: see Trainer. labelled, unlabelled: its images.
    """

    network: Network
    labelled: tuple[DatasetImage, ...]
    unlabelled: tuple[DatasetImage, ...]
    accelerator: Accelerator
    teacher: Network | None
    price_curves: MeasurePrices | None

    def trainer(self, settings: TrainingSettings) -> Trainer:
        """Return the trainer of the network itself."""
        return self._make(self.network, settings, self._images(settings, self.labelled, self.unlabelled))

    def find_rate(self, settings: TrainingSettings) -> float:
        """Return the best rate of some trials, and print it. A trial sees a random part of the images."""
        random = Random(settings.seed)
        seen = STEPS * settings.accumulate * settings.batch_size * self.accelerator.num_processes
        share = min(1.0, seen / (len(self.labelled) + len(self.unlabelled)))
        parts = [
            tuple(random.sample(images, math.ceil(share * len(images))))
            for images in (self.labelled, self.unlabelled)
        ]
        epochs = math.ceil(seen / sum(map(len, parts)))
        some = self._images(settings, *parts)  # for all trials: each image is decoded once

        def trial(rate: float) -> Trainer:
            changed = replace(settings, lr0=rate, epochs=epochs, warmup=epochs / 4, gradual=0)
            return self._make(copy.deepcopy(self.network), changed, some)

        found = find_rate(trial, settings.optimizer)
        if self.accelerator.is_main_process:
            say(found.describe())
        return found.best

    def _make(self, network: Network, settings: TrainingSettings, images: TrainingImages) -> Trainer:
        return Trainer(network, images, settings, self.accelerator, self.teacher, self.price_curves)

    def _images(
        self,
        settings: TrainingSettings,
        labelled: tuple[DatasetImage, ...],
        unlabelled: tuple[DatasetImage, ...],
    ) -> TrainingImages:
        return TrainingImages(
            labelled,
            unlabelled=unlabelled,
            imgsz=settings.imgsz,
            augmentation=augmentation_of(settings, self.network.trained_with),
            seed=settings.seed,
        )


def _with_teacher(material: Material, *, pruning: bool) -> Material:
    """Return the material with its teacher: by default the checkpoint itself, as it is before it is pruned.

    Raises InputError where images without labels have no teacher.
    """
    teacher = material.teacher
    if not teacher and pruning:
        teacher = material.weights
    if teacher == NO_TEACHER:
        teacher = ""
    if material.images and not teacher:
        raise InputError("`images` have no labels: give a `teacher` to distil from")
    return replace(material, teacher=teacher)


def _price_curves(
    network: Network, settings: TrainingSettings, measure: PricesAt | None
) -> Mapping[str, PriceCurve] | None:
    """Return the main process's price curves, in every process; None where they are not needed."""
    if not settings.amount or settings.budget != LATENCY or measure is None:
        return None
    found = [None]
    if PartialState().is_main_process:
        found = [measure(fuse(copy.deepcopy(network).eval()), settings.imgsz)]
    return broadcast_object_list(found)[0]


def _take_weights_of_main(network: Network) -> None:
    """Give the network of each process the main process's weights, in place.

    Each process prunes by itself, which leaves them nearly the same: the free memory decides how many images
    are read, and processors round differently. Their zeros must be the same.
    """
    if PartialState().num_processes > 1:
        network.load_state_dict(broadcast_object_list([network.state_dict()])[0])


def _check_norms(network: Network, settings: TrainingSettings, images: int) -> None:
    """Raise InputError where a channel of a batch has one value, which batch norms can't normalise."""
    smallest = min(settings.batch_size, images % settings.batch_size or settings.batch_size)
    if smallest == 1 and settings.imgsz == network.largest_stride and not settings.keeps_statistics:
        raise InputError(
            f"`imgsz` is {settings.imgsz}, which makes maps of one cell, and a batch has one image "
            f"(`batch_size` is {settings.batch_size}, there are {images} images): batch norms need "
            "more values; give a larger `imgsz`, another `batch_size` or `freeze_bn`"
        )


def _accelerator(validation: ValidationSettings, log_with: str, folder: Path) -> Accelerator:
    """Return an accelerator: float16 on a GPU; bfloat16 on a CPU that has it, if half is set.

    log_with: its tracker, which writes into folder; "" for none.
    """
    device = select_device(validation.device)
    on_cpu = device.type == "cpu"
    precision = _PRECISIONS[select_precision(device, validation.half or not on_cpu)]
    logging = {"log_with": log_with, "project_dir": folder} if log_with else {}
    return Accelerator(cpu=on_cpu, mixed_precision=precision, **logging)


def _network(material: Material, settings: TrainingSettings) -> Network:
    if material.weights:
        network = load(material.weights, fused=False)
        network = choose_head(network, material.head) if material.head else network
        if not has_norms(network):
            raise InputError(
                f"{material.weights}: its batch norms are already folded in, so it cannot be trained; give "
                "the checkpoint that it was made from"
            )
        return network
    source = find_source(Path(material.data), "train")
    names = source.names
    if not names:
        raise InputError(f"{material.data}: names no classes; `cfg` needs a data yaml with names")
    if source.unnamed:
        raise InputError(
            f"{material.data}: names has no number {source.unnamed[0]}; `cfg` makes a network of the "
            f"{len(names)} classes, so number them from 0 on"
        )
    torch.manual_seed(settings.seed)
    network = build(published_architecture(material.cfg, len(names)), names)
    _initialise(network, settings.imgsz)
    return network


def _initialise(network: Network, imgsz: int) -> None:
    """Give random weights their initial constants and biases, as the family's lesson defines them."""
    lesson_of(network).initialise(network.head, imgsz)


def _teacher(material: Material, student: Network) -> Network:
    """Return the teacher. If it holds the branch of the head that the student runs, it runs that, too.

    If the student holds this branch alone, the teacher's other one is dropped.
    """
    teacher = load(material.teacher, fused=True)
    if student.head.branch in held_heads(teacher):
        choose = choose_head if len(held_heads(student)) > 1 else keep_head
        teacher = choose(teacher, student.head.branch)
    _check_teacher(teacher, student, material.teacher)
    return teacher


def _check_teacher(teacher: Network, student: Network, path: Location) -> None:
    lesson = lesson_of(student)
    if teacher.dialect != student.dialect:
        theirs, ours = teacher.family, student.family
        raise InputError(f"`teacher` {path}: it is a {theirs}, the student a {ours}; one family is expected")
    renamed = [pair for pair in zip(teacher.names, student.names, strict=False) if pair[0] != pair[1]]
    for what, theirs, ours in (
        ("classes", len(teacher.names), len(student.names)),
        *(("classes", *pair) for pair in renamed[:1]),
        ("strides", teacher.strides, student.strides),
        *lesson.shared(teacher, student),
    ):
        if theirs != ours:
            raise InputError(
                f"`teacher` {path}: its {what} are {theirs}, the student's {ours}; "
                f"teacher and student need the same {lesson.needs}"
            )


def _data(
    material: Material, network: Network, progress: bool
) -> tuple[tuple[tuple[DatasetImage, ...], tuple[DatasetImage, ...]], Dataset | None]:
    """Return the labelled and the unlabelled images to train on, and the data set to validate on."""
    images = _training_images(material, network, progress)
    return images, _read_split(material, network, "val", progress) if material.data else None


def _training_images(
    material: Material, network: Network, progress: bool
) -> tuple[tuple[DatasetImage, ...], tuple[DatasetImage, ...]]:
    """Return the labelled and the unlabelled images to train on."""
    unlabelled = read_images(material.images) if material.images else ()
    labelled = _read_split(material, network, "train", progress).images if material.data else ()
    return labelled, unlabelled


def _read_split(material: Material, network: Network, split: Split, progress: bool) -> Dataset:
    return read_data(
        material.data,
        network,
        ValidationSettings(),
        split=split,
        ignore_names=material.ignore_names,
        progress=progress,
    )


def training_identity(
    material: Material,
    settings: TrainingSettings,
    labelled: tuple[DatasetImage, ...],
    unlabelled: tuple[DatasetImage, ...],
) -> dict[str, Any]:
    """Return what two trainings must have in common to be one: settings and contents, not file paths."""
    content = {"weights": _digest(material.weights), "teacher": _digest(material.teacher)}
    images = {"labelled": _describe(labelled), "unlabelled": _describe(unlabelled)}
    left_out = ("workers", "patience") if settings.depthwise else ("workers", "patience", "depthwise")
    shared = {k: v for k, v in asdict(settings).items() if k not in left_out}
    head = {"head": material.head} if material.head else {}
    return {"cfg": material.cfg, **content, **images, **shared, **head}


def _describe(images: tuple[DatasetImage, ...]) -> str:
    digest = hashlib.sha256(identify(images))
    return f"{len(images)} images, sha256 {digest.hexdigest()[:16]}"


def _digest(path: Location) -> str:
    if path in ("", NO_TEACHER):
        return str(path)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
