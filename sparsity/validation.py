"""Network and data set -> metrics."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import torch

from sparsity.counting import COUNTING, Counting, counting_of
from sparsity.data.dataset import Dataset, DatasetImage, read_dataset
from sparsity.data.letterbox import Placement
from sparsity.data.loader import Batch, BatchLoader
from sparsity.detection.nms import Detections
from sparsity.devices import select_device, select_precision
from sparsity.engines.registry import TORCH, check_engine, make_engine
from sparsity.engines.runner import Engine
from sparsity.errors import InputError
from sparsity.evaluation import coco
from sparsity.evaluation.average_precision import AveragePrecision, AveragePrecisionMeter
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.inference import Detector, Lanes, PhaseSeconds, Thresholds
from sparsity.metrics import Metrics
from sparsity.progress import progress_bar
from sparsity.pruning.apply import Sparsity, count_sparsity
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class ValidationSettings:
    """How to validate; the defaults are those of the published COCO figures.

    imgsz: the longer side of an image in pixels, rounded up to a multiple of the largest stride.
    batch_size: images that share a shape; part of the result, since padding depends on it.
    batch_size, iou_thres: where None, those with which the network's family validates (see counting).
    device: '', 'cpu', '0', 'cuda:1'. half: float16 on a GPU, bfloat16 on a CPU that has it.
    workers: threads that decode images, at most half as many as there are cores.
    single_cls: count all classes as one. engine: torch, or onnxruntime, openvino or sparse,
    which run in float32 on the CPU alone.
    """

    imgsz: int = 640
    batch_size: int | None = None
    conf_thres: float = 0.001
    iou_thres: float | None = None
    max_det: int = 300
    device: str = ""
    half: bool = False
    workers: int = 8
    single_cls: bool = False
    engine: str = TORCH

    def __post_init__(self) -> None:
        """Raise InputError for a value out of range."""
        for name, least in (("imgsz", 32), ("batch_size", 1), ("max_det", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is None and name == "batch_size":
                continue
            if not isinstance(value, int) or value < least:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value!r}; a whole number from {least} on is expected")
        for name in ("conf_thres", "iou_thres"):
            value = getattr(self, name)
            if value is None and name == "iou_thres":
                continue
            if not 0 <= value < 1 or math.isnan(value):
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value!r}; at least 0 and less than 1 is expected")
        if check_engine(self.engine) != TORCH:
            self._stay_on_the_cpu()

    def _stay_on_the_cpu(self) -> None:
        if self.half or self.device.strip().lower() not in ("", "cpu"):
            asked = "--half" if self.half else f"--device {self.device}"
            raise InputError(f"--engine {self.engine} computes in float32 on the CPU; leave {asked} out")
        object.__setattr__(self, "device", "cpu")


@dataclass(frozen=True)
class Validation:
    """The outcome: the row of figures, the own metric by class, and the detections.

    predictions: COCO results, a dict a detection (image_id, category_id, bbox xywh, score).
    """

    metrics: Metrics
    own: AveragePrecision = field(repr=False)
    figures: coco.CocoFigures = field(repr=False)
    predictions: list[dict[str, Any]] = field(repr=False)
    dataset: Dataset = field(repr=False)


@dataclass(frozen=True)
class Origin:
    """Where a network came from, for the row of figures: its file, and how it was pruned (see Metrics)."""

    weights: str = ""
    scope: str = ""
    amount: float | None = None
    criterion: str = ""
    pattern: str = ""
    keep: str = ""
    channels_removed: int = 0


Detectable: TypeAlias = "Network | OnnxNetwork"
"""What can be validated: a network, or an ONNX file by an engine that runs it."""


def validate(
    network: Detectable,
    data: str | PathLike[str] | Dataset,
    settings: ValidationSettings | None = None,
    *,
    origin: Origin | None = None,
    decoded: Sequence[Batch] | None = None,
    progress: bool = False,
) -> Validation:
    """Run the network over the data's validation images and measure what it finds.

    network: as load gives it, or an ONNX file as formats.onnx_file.read gives it; a copy of it runs, in
    evaluation mode, on the device, in the precision and by the engine of the settings.
    data: a data yaml or folder (see read_dataset), or a data set that was read before.
    decoded: that data set's batches, as make_loader gives them for these settings, for one that is
    validated on again and again; without them the images are read anew.
    Raises InputError where data or settings can't be used. A network that finds nothing is a valid
    outcome, all figures 0.
    """
    settings = settings or ValidationSettings()
    settings = fit(settings, network)
    device = select_device(settings.device)
    if not isinstance(data, Dataset):
        data = read_dataset(data, network.names, single_cls=settings.single_cls, progress=progress)
    counted = count_sparsity(network)
    with Lanes(device) as lanes, closing(batches(data, network, settings, progress, decoded)) as stream:
        detector = make_detector(network, lanes, settings)
        evaluator = make_evaluator(data, network, settings)
        detector.warm_up((settings.imgsz, settings.imgsz))
        with ThreadPoolExecutor(1, thread_name_prefix="evaluate") as beside:
            # A batch's detections are matched while the network works on the next batch.
            updates: deque[Future[None]] = deque()
            for batch in stream:
                found = detector.detect(batch.pixels)
                updates.append(beside.submit(evaluator.update, batch.images, batch.placements, found))
                if updates[0].done():
                    updates.popleft().result()
        for update in updates:
            update.result()
    own, predictions = evaluator.own(), evaluator.predictions()
    figures = coco.evaluate(
        data.annotations.content,
        predictions,
        image_ids=data.image_ids,
        category_ids=counted_categories(data, settings),
    )
    metrics = make_metrics(
        origin or Origin(), data, settings, counted, own, figures, detector, detector.seconds
    )
    return Validation(metrics, own, figures, predictions, data)


def fit(settings: ValidationSettings, network: Detectable) -> ValidationSettings:
    """The settings as the network needs them.

    imgsz is rounded up to a multiple of its largest stride; what is None is its family's.
    """
    stride, family = max(network.strides), counting_of(network)
    return replace(
        settings,
        imgsz=math.ceil(settings.imgsz / stride) * stride,
        batch_size=family.batch_size if settings.batch_size is None else settings.batch_size,
        iou_thres=family.iou_thres if settings.iou_thres is None else settings.iou_thres,
    )


def make_loader(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> BatchLoader:
    """The data set's images in batches, as the network and the settings (see fit) need them."""
    return BatchLoader(
        dataset.images,
        imgsz=settings.imgsz,
        batch_size=settings.batch_size,
        stride=max(network.strides),
        workers=min(settings.workers, max(1, (os.cpu_count() or 1) // 2)),
        resizing=counting_of(network).resizing,
    )


def batches(
    dataset: Dataset,
    network: Detectable,
    settings: ValidationSettings,
    progress: bool = False,
    decoded: Sequence[Batch] | None = None,
) -> Iterator[Batch]:
    """The data set's images in batches, decoded before or now, with a progress bar if wanted."""
    loader = make_loader(dataset, network, settings) if decoded is None else decoded
    yield from progress_bar(loader, desc="Validating", unit="batch", shown=progress, leave=False)


def make_detector(
    network: Detectable, lanes: Lanes, settings: ValidationSettings, engine: Engine | None = None
) -> Detector:
    """The network, placed on the lanes' device with the settings' precision and thresholds.

    engine: one that made others ready before, instead of a new one of the settings'.
    """
    return Detector(
        network,
        lanes,
        engine=engine or make_engine(settings.engine),
        dtype=select_precision(lanes.device, settings.half),
        thresholds=Thresholds(settings.conf_thres, settings.iou_thres, settings.max_det),
        agnostic=settings.single_cls,
    )


def make_evaluator(dataset: Dataset, network: Detectable, settings: ValidationSettings) -> Evaluator:
    """What gathers the network's detections, and counts them as its family does."""
    return Evaluator(dataset, single_cls=settings.single_cls, counting=counting_of(network))


class Evaluator:
    """Gathers one network's detections over a data set: update() by batch, then the outcome."""

    def __init__(
        self, dataset: Dataset, *, single_cls: bool = False, counting: Counting = COUNTING["yolov5"]
    ) -> None:
        self.dataset, self.single_cls, self._counting = dataset, single_cls, counting
        self._meter = AveragePrecisionMeter(counting.rules)
        self._found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def update(
        self,
        images: Sequence[DatasetImage],
        placements: Sequence[Placement],
        found: Sequence[Detections],
    ) -> None:
        """Add a batch's detections, in letterbox pixels."""
        for image, placement, detections in zip(images, placements, found, strict=True):
            found_xyxy = detections.boxes_xyxy.numpy()
            boxes = placement.to_image_xyxy(found_xyxy)
            counted = boxes if self._counting.clipped else placement.to_image_xyxy(found_xyxy, clip=False)
            scores, classes = detections.scores.numpy(), detections.classes.numpy()
            if self.single_cls:
                classes = np.zeros_like(classes)
            true = placement.to_letterbox_xyxy(image.labels.boxes_cxcywhn)
            true = placement.to_image_xyxy(true)
            self._meter.update(counted, scores, classes, true, image.labels.classes)
            self._found.append((image.image_id, boxes, scores, classes))

    def own(self) -> AveragePrecision:
        """The family's own metric."""
        return self._meter.compute()

    def predictions(self) -> list[dict[str, Any]]:
        """The detections as COCO results; made anew by each call, since dicts take much memory."""
        ids, rows = self.dataset.category_ids, []
        for image_id, boxes, scores, classes in self._found:
            rows += coco.predictions(image_id, boxes, scores, [ids[label] for label in classes.tolist()])
        return rows


def counted_categories(dataset: Dataset, settings: ValidationSettings) -> tuple[int, ...]:
    """The category ids that pycocotools tells apart: none where all classes count as one."""
    return () if settings.single_cls else dataset.category_ids


def make_metrics(
    origin: Origin,
    dataset: Dataset,
    settings: ValidationSettings,
    counted: Sparsity,
    own: AveragePrecision,
    figures: coco.CocoFigures,
    detector: Detector,
    seconds: PhaseSeconds,
) -> Metrics:
    """The row of a validation. seconds: what the detector took."""
    preprocess, inference, nms = seconds.per_image_ms()
    return Metrics(
        weights=origin.weights,
        data=dataset.name,
        criterion=origin.criterion,
        scope=origin.scope,
        pattern=origin.pattern,
        keep=origin.keep,
        amount=origin.amount,
        channels_removed=origin.channels_removed,
        conv_layers=counted.conv_layers,
        conv_weights=counted.conv_weights,
        conv_zeros=counted.conv_zeros,
        parameters=counted.parameters,
        sparsity_conv=counted.conv,
        sparsity_model=counted.model,
        images=len(dataset.images),
        instances=own.instances,
        P=own.P,
        R=own.R,
        mAP50=own.mAP50,
        mAP50_95=own.mAP50_95,
        **asdict(figures),
        preprocess_ms=preprocess,
        inference_ms=inference,
        nms_ms=nms,
        engine=detector.engine.name,
        device=detector.lanes.device_name,
        precision=str(detector.dtype).removeprefix("torch."),
        imgsz=settings.imgsz,
        batch_size=settings.batch_size,
        conf_thres=settings.conf_thres,
        iou_thres=settings.iou_thres,
        torch=torch.__version__,
    )
