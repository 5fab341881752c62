"""Pruned copies of a network by any method; what calibration images teach is computed once for all."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sparsity.base.errors import InputError
from sparsity.base.memory import is_out_of_memory
from sparsity.base.progress import progress_bar
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.channel_costs import channel_costs
from sparsity.pruning.criterion import Criterion, PruningContext
from sparsity.pruning.curves import Curve, measure_curves
from sparsity.pruning.feature_maps import image_bytes
from sparsity.pruning.layers import convolutions
from sparsity.pruning.magnitude import Magnitude, prune
from sparsity.pruning.method import Method, as_method
from sparsity.pruning.obs import Obs, ObsSettings
from sparsity.pruning.patterns import Pattern, parse_pattern

UNSTRUCTURED = "unstructured"
"""The name in rows of no pattern."""
COST_IMAGES = 32
"""The number of calibration images that channel costs are estimated on; 8 are nearly as good."""


class Prunable(Protocol):
    """A detector that can be pruned by methods that learn from images: an nn.Module with importance."""

    def importance(self, raw: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the weights of the squared errors of the outputs, in the shapes of the outputs."""


class Pruner:
    """Makes pruned copies of a network, on the CPU; the network itself stays as it is.

    network: as load gives it, fused. criterion: what prune uses where it is given none: a criterion object
    of your own, a Method or a name. calibration: batches of images, as read_calibration gives them.
    keep: names of layers that stay dense, with wildcards: 'model.24.*'. pattern: N:M as "2:4".
    seed: of every random choice. device: where methods that learn from images compute.
    progress: show bars.
    """

    def __init__(
        self,
        network: nn.Module,
        criterion: Method | Criterion | str = "l1",
        *,
        calibration: Sequence[Tensor] = (),
        keep: Sequence[str] = (),
        pattern: str | Pattern | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        self.network = network
        self.method = as_method(criterion)
        self._calibration = tuple(calibration)
        self._keep = (keep,) if isinstance(keep, str) else tuple(keep)
        self._pattern = parse_pattern(pattern) if isinstance(pattern, str) else pattern
        self._seed, self._device, self._progress = seed, torch.device(device), progress
        self._curves: dict[str, Curve] | None = None

    @property
    def rules(self) -> dict[str, str]:
        """What holds for every method, as a row of figures says it: pattern and keep."""
        return {"pattern": str(self._pattern or UNSTRUCTURED), "keep": " ".join(self._keep)}

    def identity(self, methods: Sequence[Method]) -> dict[str, Any]:
        """Return what two pruners must share to prune alike by these methods, as JSON values."""
        about = dict(self.rules)
        if any(method.needs_calibration for method in methods):
            images = {"calibration": self._describe_images(), "calibration_seed": self._seed}
            about |= images | Obs().identity()  # curves are measured by obs
        for method in methods:
            about |= method.resolved.identity()
        return about

    def working_bytes(self, methods: Sequence[Method]) -> int:
        """About how much of the device's memory pruning by these methods takes."""
        if not any(method.needs_calibration for method in methods):
            return 0
        return sum(len(batch) * image_bytes(self.network, batch.shape[2:]) for batch in self._calibration)

    def check(self, method: Method | Criterion | str, amount: float) -> None:
        """Raise InputError where prune would refuse, before anything is computed that takes long."""
        method = as_method(method)
        if method.needs_calibration and not self._calibration:
            raise InputError(no_calibration(method))
        # What can be reached depends on the scope no further, and erk's needs no scores.
        scope = "layer" if method.scope == "layer" else "erk"
        keep_counts(self.network, amount, scope, keep=self._keep, pattern=self._pattern)

    def prune(self, method: Method | Criterion | str | None = None, amount: float = 0.0) -> nn.Module:
        """Return a copy in which that fraction of the weights is zero, made permanent.

        method: a Method, a criterion object or a name; None takes the pruner's own criterion.
        amount: see keep_counts; 0 gives a dense copy.
        Raises InputError for an amount out of range or reach, a name in keep that matches no layer, no
        calibration images where the method needs them, or more of them than memory holds.
        """
        method = self.method if method is None else as_method(method)
        self.check(method, amount)
        network = copy.deepcopy(self.network)
        if not amount:
            return network
        criterion, rules = method.resolved, {"keep": self._keep, "pattern": self._pattern}
        if isinstance(criterion, Magnitude) and method.scope != "measured":
            return prune(network, amount, method.scope, **rules)
        marginals = self._marginals() if method.scope == "measured" else None
        counts = keep_counts(network, amount, method.scope, **rules, marginals=marginals)
        del marginals
        context = PruningContext(pattern=self._pattern, seed=self._seed)
        if not criterion.needs_images:
            criterion.prune(network, counts, context)
            return network
        network.to(self._device)
        with self._learning(f"Pruning ({method.label}, {amount:.9g})") as bar:
            context = replace(context, images=self._batches(), tick=lambda _name: bar.update())
            criterion.prune(network, counts, context)
        return network.cpu()

    def _marginals(self) -> dict[str, np.ndarray]:
        if self._curves is None:
            self._curves = self._measure_curves()
        return {name: curve.marginals() for name, curve in self._curves.items()}

    def _measure_curves(self) -> dict[str, Curve]:
        network, batches = copy.deepcopy(self.network).to(self._device), self._batches()
        with self._learning("Measuring layer costs") as bar:
            some = _first(batches, COST_IMAGES)
            costs = channel_costs(network, some, network.importance, seed=self._seed)
            return measure_curves(
                network,
                batches,
                costs,
                settings=ObsSettings(seed=self._seed),
                tick=lambda _name: bar.update(),
            )

    def _batches(self) -> list[Tensor]:
        return [batch.to(self._device) for batch in self._calibration]

    @contextmanager
    def _learning(self, title: str) -> Iterator[tqdm]:
        """A bar over the layers, and one line where memory is not enough."""
        layers = sum(1 for _ in convolutions(self.network))
        try:
            with progress_bar(
                total=layers, desc=title, unit="layer", shown=self._progress, leave=False
            ) as bar:
                yield bar
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            images = sum(map(len, self._calibration))
            raise InputError(
                f"--calib-images: memory does not hold the feature maps of {images} images; give fewer"
            ) from error

    def _describe_images(self) -> str:
        digest = hashlib.sha256()
        for batch in self._calibration:
            digest.update(str(tuple(batch.shape)).encode())
            digest.update(batch.cpu().contiguous().numpy())
        return f"{sum(map(len, self._calibration))} images, sha256 {digest.hexdigest()[:16]}"


def no_calibration(method: Method) -> str:
    """What to say where a method lacks its images."""
    needy = method.resolved.needs_images
    what = f"--criterion {method.name}" if needy else f"--scope {method.scope}"
    return f"{what} learns from images: --calib FOLDER names some (no labels needed)"


def _first(batches: Sequence[Tensor], images: int) -> list[Tensor]:
    """The batches with so many images in all, taken evenly from them."""
    every = max(1, round(sum(map(len, batches)) / images))
    return list(batches[::every])
