"""How a training prunes its network, which still has its batch norms."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from sparsity.data.calibration import letterboxed_batches
from sparsity.data.dataset import DatasetImage
from sparsity.pruning.feature_maps import limit_by_memory
from sparsity.pruning.method import Method
from sparsity.pruning.price_curves import MeasurePrices
from sparsity.pruning.pruner import IMGSZ, Pruner
from sparsity.training.masks import Masks, nonzero_masks
from sparsity.training.settings import TrainingSettings
from sparsity.validation.counting import counting_of
from sparsity.yolo.network import Network, fuse, take_over


def method_of(settings: TrainingSettings) -> Method:
    """Return the method that a training prunes by."""
    return Method(settings.criterion, settings.scope, settings.budget)


def prune_unfused(
    network: Network,
    method: Method,
    amount: float,
    price_curves: MeasurePrices | None = None,
    *,
    depthwise: bool = False,
    imgsz: int = IMGSZ,
) -> Masks:
    """Prune a network in place, with the same result as pruning it fused. Returns the masks.

    The method must not need images. The weights are ranked with each batch norm folded into its convolution:
    val_sparse.py prunes the same weights, and these are the weights that run in the end.
    price_curves, depthwise, imgsz: see Pruner.
    """
    fused = fuse(copy.deepcopy(network).eval())
    pruner = Pruner(fused, depthwise=depthwise, imgsz=imgsz, price_curves=price_curves)
    masks = nonzero_masks(pruner.prune(method, amount))
    masks.apply(network)
    return masks


def prune_by_images(
    network: Network,
    images: Sequence[DatasetImage],
    settings: TrainingSettings,
    device: torch.device,
    *,
    progress: bool,
    price_curves: MeasurePrices | None = None,
) -> Network:
    """Prune a network in place by training images, with the same result as pruning it fused.

    price_curves: see Pruner. Returns the network.
    """
    method = method_of(settings)
    pruner = Pruner(
        fuse(copy.deepcopy(network)),
        calibration=_read(network, images, settings, device),
        depthwise=settings.depthwise,
        seed=settings.seed,
        imgsz=settings.imgsz,
        price_curves=price_curves,
        device=device,
        progress=progress,
    )
    pruned = pruner.prune(method, settings.amount)
    if method.resolved.updates_weights:
        return take_over(network, pruned)
    nonzero_masks(pruned).apply(network)
    return network


def _read(
    network: Network, images: Sequence[DatasetImage], settings: TrainingSettings, device: torch.device
) -> list[Tensor]:
    stride = network.largest_stride
    side = settings.imgsz + stride  # a batch's sides are padded by one stride at most
    count = limit_by_memory(min(settings.calib_images, len(images)), network, (side, side), device)
    return letterboxed_batches(
        random.Random(settings.seed).sample(images, count),
        imgsz=settings.imgsz,
        stride=stride,
        resizing=counting_of(network).resizing,
        workers=1,
    )


def cubic_amount(progress: float, target: float) -> float:
    """Return the amount of a gradual schedule: from 0 at progress 0 to target at 1, fast at first, then slow.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878.
    """
    return target * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)
