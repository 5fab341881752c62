"""Validates a network on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sparsity.base.devices import select_device
from sparsity.base.progress import progress_bar
from sparsity.data.dataset import Dataset
from sparsity.data.loader import Batch
from sparsity.engines.making import make_engine
from sparsity.evaluation import coco
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.evaluation.results import Results
from sparsity.pruning.budgets import WEIGHTS
from sparsity.pruning.multiply_adds import BILLION, MultiplyAdds, count_multiply_adds
from sparsity.pruning.zeros import Sparsity, count_sparsity
from sparsity.validation.counting import counting_of
from sparsity.validation.detector import Lanes, PhaseSeconds, RanIn, make_detector
from sparsity.validation.evaluator import counted_categories, make_evaluator
from sparsity.validation.inputs import Detectable, fit, make_loader, read_data
from sparsity.validation.metrics import Metrics
from sparsity.validation.passes import DecodedBatches, run_pass
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    metrics: the row of figures. own: the family's own metric, in total and per class. figures: those of
    pycocotools. results: the detections as arrays. dataset: the data set.
    """

    metrics: Metrics
    own: AveragePrecision = field(repr=False)
    figures: coco.CocoFigures = field(repr=False)
    results: Results = field(repr=False)
    dataset: Dataset = field(repr=False)

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """COCO results, one dict per detection (image_id, category_id, bbox xywh, score)."""
        return self.results.rows()


@dataclass(frozen=True)
class Origin:
    """The origin of a network, for the row of figures: its file, and how it was pruned (see Metrics)."""

    weights: str = ""
    scope: str = ""
    amount: float | None = None
    criterion: str = ""
    pattern: str = ""
    keep: str = ""
    channels_removed: int = 0
    budget: str = WEIGHTS
    predicted_ms: float | None = None
    depthwise: str = ""


def validate(
    network: Detectable,
    data: str | PathLike[str] | Dataset,
    settings: ValidationSettings | None = None,
    *,
    origin: Origin | None = None,
    decoded: Sequence[Batch] | None = None,
    calibration: Sequence[Tensor] = (),
    progress: bool = False,
) -> Validation:
    """Run the network on the validation images of the data, and measure its detections.

    network: from load, or an ONNX file from formats.onnx_file.read. A copy of it runs in evaluation mode,
    with the device, the precision and the engine of the settings.
    data: a data yaml or folder (see read_dataset), or a data set that was read before.
    settings: None for the defaults. origin: for the row of figures.
    decoded: all batches of this data set, from make_loader with these settings, if several validations use
    the same images. None: the images are read. calibration: images, for an engine that needs some (see
    read_calibration). progress: whether to show a progress bar.
    Raises InputError where data or settings can't be used. No detections at all is a valid result: all
    figures are 0.
    """
    settings = fit(settings or ValidationSettings(), network)
    device = select_device(settings.device)
    if not isinstance(data, Dataset):
        data = read_data(data, network, settings, progress=progress)
    batches = make_loader(data.images, network, settings) if decoded is None else DecodedBatches(decoded)
    evaluator = make_evaluator(data, network, settings)
    with Lanes(device) as lanes, _bar(data, shown=progress) as bar:
        detector = make_detector(network, lanes, settings, make_engine(settings.engine, calibration))
        detector.warm_up((settings.imgsz, settings.imgsz))
        seconds = run_pass({"": detector}, {"": evaluator}, batches, tick=bar.update)[""]
    own, results = evaluator.own(), evaluator.results()
    figures = coco.evaluate(
        data.annotations.content,
        results,
        image_ids=data.image_ids,
        category_ids=counted_categories(data, settings),
    )
    counted = count(network, settings)
    metrics = make_metrics(
        origin or Origin(), data, settings, counted, own, figures, detector.ran_in, seconds
    )
    return Validation(metrics, own, figures, results, data)


def _bar(data: Dataset, *, shown: bool) -> tqdm:
    return progress_bar(total=len(data.images), desc="Validating", unit="img", shown=shown, leave=False)


@dataclass(frozen=True)
class Counted:
    """What is counted in a network.

    multiply_adds: None where they are not known. head: the branch of the head whose boxes are counted; "" if
    the head has no branches.
    """

    sparsity: Sparsity
    multiply_adds: MultiplyAdds | None
    head: str = ""


def count(network: Detectable, settings: ValidationSettings) -> Counted:
    """Count a network's zeros, and its multiply-adds for one image as the settings have it.

    The zeros are those of all its layers, and of both branches of a head that holds two.
    """
    known = isinstance(network, Network)
    sides = (settings.imgsz, settings.imgsz)
    return Counted(
        count_sparsity(network),
        count_multiply_adds(network, sides) if known else None,
        counting_of(network).head,
    )


def make_metrics(
    origin: Origin,
    dataset: Dataset,
    settings: ValidationSettings,
    counted: Counted,
    own: AveragePrecision,
    figures: coco.CocoFigures,
    ran_in: RanIn,
    seconds: PhaseSeconds,
) -> Metrics:
    """Return the row of a validation. seconds: the time that the detections took."""
    preprocess, inference, nms = seconds.per_image_ms()
    zeros, work = counted.sparsity, counted.multiply_adds
    return Metrics(
        weights=origin.weights,
        data=dataset.name,
        criterion=origin.criterion,
        scope=origin.scope,
        pattern=origin.pattern,
        keep=origin.keep,
        depthwise=origin.depthwise,
        amount=origin.amount,
        budget=origin.budget,
        channels_removed=origin.channels_removed,
        conv_layers=zeros.conv_layers,
        conv_weights=zeros.conv_weights,
        conv_zeros=zeros.conv_zeros,
        parameters=zeros.parameters,
        sparsity_conv=zeros.conv,
        sparsity_model=zeros.model,
        macs_left=-1.0 if work is None else work.left_share,
        gmacs_left=-1.0 if work is None else work.left / BILLION,
        predicted_ms=origin.predicted_ms,
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
        engine=ran_in.engine,
        device=ran_in.device,
        precision=ran_in.precision,
        imgsz=settings.imgsz,
        batch_size=settings.batch_size,
        conf_thres=settings.conf_thres,
        iou_thres=settings.iou_thres,
        torch=torch.__version__,
        head=counted.head,
    )
