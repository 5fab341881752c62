"""Layer sensitivity: prune each layer alone at several amounts, and measure the cost in AP and raw maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from os import PathLike
from random import Random
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from sparsity.base.devices import select_device
from sparsity.base.errors import InputError
from sparsity.base.memory import free_memory
from sparsity.base.progress import progress_bar
from sparsity.data.annotations import Annotations
from sparsity.data.calibration import letterboxed_batches
from sparsity.data.dataset import Dataset, DatasetImage
from sparsity.data.loader import Batch
from sparsity.pruning.apply import apply_masks
from sparsity.pruning.layers import require_convolutions
from sparsity.pruning.patterns import select
from sparsity.pruning.scopes import check_amount
from sparsity.validation.counting import counting_of
from sparsity.validation.inputs import fit, make_loader, read_data
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import validate
from sparsity.yolo.network import Network

ERROR_IMAGES = 16
"""The number of images on which the raw maps are compared."""
AMOUNTS = (0.5, 0.7, 0.9)
"""The amounts where none are given."""
VAL_IMAGES = 100
"""The number of validation images where none is given."""
MEMORY_SHARE = 0.25
"""The share of the free memory for decoded images."""


@dataclass(frozen=True)
class LayerRow:
    """One Conv2d pruned by magnitude; all other layers are dense.

    weights, zeros: the numbers of weights of the layer, and of zeros among them. AP: by pycocotools.
    AP_drop: dense AP minus AP. output_error: the mean squared difference between a raw map and the dense
    network's, divided by the variance of the dense map. It is the mean over all raw maps; 0 means no change.
    head: the branch of a YOLO26's head that was counted; "" for networks whose head has no branches.
    """

    layer: str
    shape: str
    weights: int
    amount: float
    zeros: int
    AP: float
    AP_drop: float
    output_error: float
    head: str = ""


def sensitivity(
    network: Network,
    data: str | PathLike[str] | Dataset,
    amounts: Sequence[float] = AMOUNTS,
    *,
    layers: Sequence[str] = (),
    val_images: int = VAL_IMAGES,
    settings: ValidationSettings | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure layer sensitivity: prune each Conv2d alone by magnitude at several amounts, and validate.

    network: as load returns it, fused; it is not changed. data: as for validate.
    amounts: fractions of the layer, above 0 and below 1. layers: names with wildcards; () for all layers.
    val_images: the number of images of the data, drawn at random; 0 for all.
    settings: None for the defaults. progress: whether a bar is shown.
    Returns a row for each layer and amount, with the columns of LayerRow.
    Raises InputError for arguments that can't be used.
    """
    settings = fit(settings or ValidationSettings(), network)
    chosen = choose_layers(network, layers)
    if not amounts or not all(check_amount(amount) for amount in amounts):
        raise InputError(f"`amounts` is {amounts!r}; one fraction or more, each above 0, is expected")
    if not isinstance(data, Dataset):
        data = read_data(data, network, settings, progress=progress)
    rows: list[LayerRow] = []
    with progress_bar(total=len(chosen) * len(amounts), desc="Layers", unit="run", shown=progress) as bar:

        def keep(row: LayerRow) -> None:
            rows.append(row)
            bar.update()

        measure_layers(network, some_images(data, val_images), chosen, amounts, settings, on_row=keep)
    return make_layer_frame(rows)


def make_layer_frame(rows: Sequence[LayerRow]) -> pd.DataFrame:
    """Return rows as a table, with the columns of LayerRow."""
    return pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(LayerRow)])


def choose_layers(network: Network, wanted: Sequence[str]) -> list[str]:
    """Return the names of the Conv2d that match one of wanted; all names if wanted is empty.

    wanted: names with fnmatch's wildcards. Raises InputError for one that matches no Conv2d.
    """
    names = list(require_convolutions(network))
    for word in wanted:
        if not any(fnmatchcase(name, word) for name in names):
            raise InputError(
                f"`layers` {word!r} matches no Conv2d; a name such as {names[0]} or {names[-1]} is expected; "
                "* matches any part"
            )
    return [name for name in names if not wanted or any(fnmatchcase(name, word) for word in wanted)]


def some_images(dataset: Dataset, count: int, seed: int = 0, *, argument: str = "val_images") -> Dataset:
    """Return the data set with count of its images, drawn at random; all images if count is 0 or too large.

    argument: what errors call count. Raises InputError if no drawn image has a true box, or if count is below
    0.
    """
    if count < 0:
        raise InputError(f"`{argument}` is {count}; a number of images, or 0 for all, is expected")
    if count == 0 or count >= len(dataset.images):
        return dataset
    drawn = sorted(Random(seed).sample(range(len(dataset.images)), count))
    images = tuple(dataset.images[i] for i in drawn)
    if not any(len(image.labels) for image in images):
        raise InputError(
            f"`{argument}` is {count}; none of the drawn images has a labelled box; more images are expected"
        )
    return replace(dataset, images=images, annotations=_annotations_of(images, dataset.annotations))


def _annotations_of(images: Sequence[DatasetImage], annotations: Annotations) -> Annotations:
    """Return only the annotations of these images. pycocotools reads all annotations in each validation."""
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
    """Prune each layer alone at each amount, and measure the cost.

    network: as load returns it, fused; it is not changed. known: (layer, amount) pairs that are skipped.
    on_row: called with each row as soon as it is measured.
    """
    todo = [(name, amount) for name in layers for amount in amounts if (name, amount) not in known]
    if not todo:
        return
    settings = fit(settings, network)
    decoded = _decode(dataset, network, settings)
    dense_ap = validate(network, dataset, settings, decoded=decoded).metrics.AP
    counting = counting_of(network)
    images = letterboxed_batches(
        dataset.images[:ERROR_IMAGES],
        imgsz=settings.imgsz,
        stride=network.largest_stride,
        resizing=counting.resizing,
    )
    device = select_device(settings.device)
    dense_maps = _raw_maps(network, images, device)
    for name, amount in todo:
        pruned = _prune_alone(network, name, amount)
        ap = validate(pruned, dataset, settings, decoded=decoded).metrics.AP
        error = _distance(_raw_maps(pruned, images, device), dense_maps)
        figures = {"AP": ap, "AP_drop": dense_ap - ap, "output_error": error, "head": counting.head}
        on_row(LayerRow(layer=name, amount=amount, **_counts(pruned, name), **figures))


def _counts(network: Network, name: str) -> dict[str, Any]:
    """Return shape, weights and zeros of a layer, for its row."""
    weight = network.get_submodule(name).weight
    shape = "x".join(map(str, weight.shape))
    return {"shape": shape, "weights": weight.numel(), "zeros": int((weight == 0).sum())}


def _decode(dataset: Dataset, network: Network, settings: ValidationSettings) -> list[Batch] | None:
    """Return the batches, decoded once for all validations; None if they take more than MEMORY_SHARE."""
    loader = make_loader(dataset.images, network, settings)
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
    return [[raw_map.cpu() for raw_map in placed(batch.to(device))] for batch in batches]


def _distance(maps: Sequence[Sequence[Tensor]], dense: Sequence[Sequence[Tensor]]) -> float:
    """Return the output_error of a LayerRow.

    maps, dense: for each batch, the raw maps of all strides.
    """
    distances = []
    for ours, theirs in zip(zip(*maps, strict=True), zip(*dense, strict=True), strict=True):
        theirs_flat = torch.cat([raw_map.flatten() for raw_map in theirs])
        error = torch.cat([raw_map.flatten() for raw_map in ours]) - theirs_flat
        distances.append(float(error.square().mean() / theirs_flat.var()))
    return math.fsum(distances) / len(distances)
