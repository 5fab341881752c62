"""Which layers mind being pruned: each alone, at several amounts; what it costs in AP and raw maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from random import Random

import torch
from torch import Tensor

from sparsity.base.devices import select_device
from sparsity.base.errors import InputError
from sparsity.base.memory import free_memory
from sparsity.data.annotations import Annotations
from sparsity.data.calibration import letterboxed_batches
from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.loader import Batch
from sparsity.pruning.apply import apply_masks
from sparsity.pruning.layers import require_convolutions
from sparsity.pruning.patterns import select
from sparsity.validation.counting import counting_of
from sparsity.validation.inputs import fit, make_loader
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import validate
from sparsity.yolo.network import Network

ERROR_IMAGES = 16
"""On as many images the raw maps are compared."""
MEMORY_SHARE = 0.25
"""Of the free memory, for decoded images."""


@dataclass(frozen=True)
class LayerRow:
    """A Conv2d pruned alone by magnitude, the rest dense.

    AP: pycocotools'. AP_drop: the dense network's minus it. output_error: the raw maps' squared distance
    from the dense network's over the dense one's variance, the mean of the levels; 0 is no change.
    """

    layer: str
    shape: str
    weights: int
    amount: float
    zeros: int
    AP: float
    AP_drop: float
    output_error: float


def choose_layers(network: Network, wanted: Sequence[str]) -> list[str]:
    """The Conv2d whose names match one of wanted, with fnmatch's wildcards; all where it is empty.

    Raises InputError for one that matches none.
    """
    names = list(require_convolutions(network))
    for word in wanted:
        if not any(fnmatchcase(name, word) for name in names):
            raise InputError(
                f"--layers {word!r} matches no Conv2d; a name such as {names[0]} or {names[-1]} is expected, "
                "* for any part"
            )
    return [name for name in names if not wanted or any(fnmatchcase(name, word) for word in wanted)]


def some_images(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """The data set with count of its images, drawn at random; all where count is 0 or more than there are.

    Raises InputError where none of those has a true box, or count is below 0.
    """
    if count < 0:
        raise InputError(f"--images is {count}; a number of images, or 0 for all, is expected")
    if count == 0 or count >= len(dataset.images):
        return dataset
    drawn = sorted(Random(seed).sample(range(len(dataset.images)), count))
    images = tuple(dataset.images[i] for i in drawn)
    if not any(len(image.labels) for image in images):
        raise InputError(f"--images {count}: none of those drawn has a labelled box; more are expected")
    return replace(dataset, images=images, annotations=_annotations_of(images, dataset.annotations))


def _annotations_of(images: Sequence[DatasetImage], annotations: Annotations) -> Annotations:
    """The annotations of these images alone: pycocotools goes through all of them at each validation."""
    ids, content = {image.image_id for image in images}, annotations.content
    ours = {
        "images": [entry for entry in content["images"] if entry["id"] in ids],
        "annotations": [box for box in content["annotations"] if box["image_id"] in ids],
    }
    return replace(annotations, content=content | ours)


def measure_layers(
    network: Network,
    dataset: Dataset,
    layers: Sequence[str],
    amounts: Sequence[float],
    settings: ValidationSettings,
    *,
    known: Collection[tuple[str, float]] = (),
    on_row: Callable[[LayerRow], None] = lambda _row: None,
) -> None:
    """Prune each layer alone at each amount, and tell what it costs; on_row takes each row when it is there.

    network: as load gives it, fused; it stays as it is. known: layers and amounts that need not be measured.
    """
    todo = [(name, amount) for name in layers for amount in amounts if (name, amount) not in known]
    if not todo:
        return
    settings = fit(settings, network)
    decoded = _decode(dataset, network, settings)
    dense_ap = validate(network, dataset, settings, decoded=decoded).metrics.AP
    images = letterboxed_batches(
        dataset.images[:ERROR_IMAGES],
        imgsz=settings.imgsz,
        stride=max(network.strides),
        resizing=counting_of(network).resizing,
    )
    device = select_device(settings.device)
    dense_maps = _raw_maps(network, images, device)
    for name, amount in todo:
        pruned = _prune_alone(network, name, amount)
        ap = validate(pruned, dataset, settings, decoded=decoded).metrics.AP
        error = _distance(_raw_maps(pruned, images, device), dense_maps)
        weight = pruned.get_submodule(name).weight
        shape, zeros = "x".join(map(str, weight.shape)), int((weight == 0).sum())
        on_row(LayerRow(name, shape, weight.numel(), amount, zeros, ap, dense_ap - ap, error))


def _decode(dataset: Dataset, network: Network, settings: ValidationSettings) -> list[Batch] | None:
    """The images' batches, kept for all validations; None where they take too much of the memory."""
    loader = make_loader(dataset, network, settings)
    pairs = zip(loader.batches, loader.shapes, strict=True)
    size = sum(3 * len(images) * height * width for images, (height, width) in pairs)
    return list(loader) if size <= MEMORY_SHARE * free_memory(torch.device("cpu")) else None


def _prune_alone(network: Network, name: str, amount: float) -> Network:
    pruned = copy.deepcopy(network)
    weight = pruned.get_submodule(name).weight
    count = weight.numel() - round(amount * weight.numel())
    return apply_masks(pruned, {name: select(weight.abs(), count)})


@torch.inference_mode()
def _raw_maps(network: Network, batches: Sequence[Tensor], device: torch.device) -> list[list[Tensor]]:
    placed = copy.deepcopy(network).to(device)
    return [[level.cpu() for level in placed(batch.to(device))] for batch in batches]


def _distance(maps: Sequence[Sequence[Tensor]], dense: Sequence[Sequence[Tensor]]) -> float:
    """Maps of all batches -> the mean over levels of their squared distance over the dense ones' variance."""
    levels = []
    for ours, theirs in zip(zip(*maps, strict=True), zip(*dense, strict=True), strict=True):
        theirs_flat = torch.cat([level.flatten() for level in theirs])
        away = torch.cat([level.flatten() for level in ours]) - theirs_flat
        levels.append(float(away.square().mean() / theirs_flat.var()))
    return math.fsum(levels) / len(levels)
