"""The network, the images and the pruner that a command opens, with the lines that it prints about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from sparsity.base.devices import select_device
from sparsity.commands.announcement import warn_of_max_det, warn_of_trained_size
from sparsity.commands.options import Options, Pruning
from sparsity.data.dataset import Dataset
from sparsity.data.downloads import ensure_calibration, ensure_data, ensure_weights
from sparsity.formats.loading import load
from sparsity.pruning.feature_maps import limit_by_memory
from sparsity.pruning.layers import convolutions, depthwise_layers
from sparsity.pruning.price_curves import PriceCurve
from sparsity.pruning.pruner import Pruner
from sparsity.pruning.zeros import count_sparsity
from sparsity.report.validation import format_model, format_scan
from sparsity.sweeping.finetuning import Finetuning
from sparsity.timing.layer_prices import layer_prices
from sparsity.training.preparation import NO_TEACHER
from sparsity.validation.counting import counting_of
from sparsity.validation.inputs import Detectable, decoding_threads, fit, read_calibration, read_data
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network


def open_network(weights: str, head: str = "") -> Network:
    """Load a checkpoint, fused; a published one is downloaded.

    head: the branch of a YOLO26's head to keep; "" for the one that runs by default. The other is dropped.
    Raises InputError for a head that the network does not have.
    """
    network = load(ensure_weights(weights, progress=True), fused=True)
    held = held_heads(network)
    if head or held:
        head = head or network.head.branch
        network = keep_head(network, head)
        dropped = "".join(f"; {other} is dropped" for other in held if other != head)
        print(f"Head: {head}{dropped}")
    print("Fusing layers...")
    print(format_model(count_sparsity(network)))
    return network


def with_files(finetuning: Finetuning) -> Finetuning:
    """Return the trainings of a sweep with the paths of their files; published ones are downloaded."""
    asked = finetuning.material
    material = replace(
        asked,
        weights=ensure_weights(str(asked.weights), progress=True),
        teacher=ensure_teacher(str(asked.teacher)),
        data=ensure_data(str(asked.data), progress=True),
    )
    return replace(finetuning, material=material)


def open_data(
    options: Options, network: Detectable, asked: ValidationSettings
) -> tuple[Dataset, ValidationSettings]:
    """Read a data set, and return it with the settings fitted to the network."""
    settings = fit(asked, network)
    if settings.imgsz != asked.imgsz:
        print(f"WARNING: image size {asked.imgsz} is rounded up to {settings.imgsz}")
    warn_of_trained_size(getattr(network, "trained_with", {}), asked.imgsz)
    counting = counting_of(network)
    print(counting.describe(settings.batch_size, settings.iou_thres))
    warn_of_max_det(counting, settings.max_det)
    place = ensure_data(options.data, progress=True)
    dataset = read_data(
        place,
        network,
        settings,
        split=options.task,
        ignore_names=options.ignore_names,
        progress=True,
    )
    print(f"Scanning {place}... {format_scan(dataset.scan)}")
    return replace(dataset, name=options.data), settings


def make_pruner(
    network: Network,
    pruning: Pruning,
    settings: ValidationSettings,
    prices: Mapping[str, PriceCurve] | None = None,
    *,
    with_images: bool = False,
) -> Pruner:
    """Make the pruner; read calibration images where a method needs them, or with_images.

    prices: the times of the layers, for the budget "latency". None, or those of another network: they are
    measured where a method needs them.
    """
    device, imgsz = select_device(settings.device), fit(settings, network).imgsz
    names = ("keep", "pattern", "depthwise")
    given = {name: getattr(pruning, name) for name in names} | {"seed": pruning.calib_seed, "imgsz": imgsz}
    measure = partial(layer_prices, imgsz=imgsz, progress=True)
    fitting = prices and all(name in prices for name, _ in convolutions(network))
    given["price_curves"] = (lambda _network: prices) if fitting else measure
    if not with_images and not any(method.needs_calibration for method in pruning.methods):
        return Pruner(network, **given, device=device, progress=True)
    calibration = read_images(network, pruning, settings)
    return Pruner(network, **given, calibration=calibration, device=device, progress=True)


def ensure_teacher(teacher: str) -> str:
    """Return the teacher's path; a published checkpoint is downloaded. "" and "none" stay."""
    return ensure_weights(teacher, progress=True) if teacher not in ("", NO_TEACHER) else teacher


def describe_depthwise(network: Network, pruning: Pruning) -> str:
    """Return a line about the depthwise layers that stay dense; "" if there are none."""
    kept = [] if pruning.depthwise else depthwise_layers(network)
    if not kept:
        return ""
    weights = sum(network.get_submodule(name).weight.numel() for name in kept)
    share = weights / count_sparsity(network).conv_weights
    return f"Depthwise layers... {len(kept)} stay dense ({share:.2%} of the weights); --depthwise prunes them"


def read_images(network: Network, pruning: Pruning, settings: ValidationSettings) -> list[torch.Tensor]:
    """Read the calibration images; fewer where memory does not hold their feature maps."""
    imgsz, device = fit(settings, network).imgsz, select_device(settings.device)
    side = imgsz + network.largest_stride  # a batch's sides are padded by one stride at most
    calibration = read_calibration(
        ensure_calibration(pruning.calib, progress=True),
        limit_by_memory(pruning.calib_images, network, (side, side), device),
        network=network,
        imgsz=imgsz,
        seed=pruning.calib_seed,
        workers=decoding_threads(settings.workers),
    )
    print(f"Calibration: {sum(map(len, calibration))} images of {pruning.calib}")
    return calibration
