"""Pruned copies of a network, by any method. The cost curves are measured once for all copies."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError
from sparsity.base.memory import is_out_of_memory
from sparsity.base.progress import progress_bar
from sparsity.pruning.amounts import keep_counts, least_price
from sparsity.pruning.budgets import LATENCY, WEIGHTS
from sparsity.pruning.channel_costs import channel_costs
from sparsity.pruning.criterion import Criterion, PruningContext
from sparsity.pruning.curves import Curve, curve_identity, measure_curves
from sparsity.pruning.feature_maps import image_bytes
from sparsity.pruning.layers import convolutions, depthwise_layers
from sparsity.pruning.magnitude import Magnitude, prune
from sparsity.pruning.method import Method, any_by_time, as_method
from sparsity.pruning.multiply_adds import Prices, prices
from sparsity.pruning.obs import Obs, ObsSettings
from sparsity.pruning.patterns import AnyPattern, parse_pattern
from sparsity.pruning.price_curves import MeasurePrices, PriceCurve, digest, price_of

UNSTRUCTURED = "unstructured"
"""The pattern's name in rows where there is no pattern."""
IMGSZ = 640
"""The side of images where none is given, in pixels."""
COST_IMAGES = 32
"""The number of calibration images for the estimate of the channel costs; 8 are nearly as good."""


class Prunable(Protocol):
    """A detector that every method can prune: an nn.Module with importance, for "obs" and "measured".

    If a call runs one of several branches only, it also has a method every_output (see layers.every_output).
    """

    def importance(self, raw: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the weights of the squared errors of the outputs, in the shapes of the outputs."""


class Pruner:
    """Makes pruned copies of a network, on the CPU. The network itself is not changed.

    network: fused, as load returns it. criterion: the default of prune: your own criterion object, a Method
    or a name. calibration: batches of images, as read_calibration returns them.
    keep: names of layers that stay dense, with wildcards: 'model.24.*'.
    pattern: N:M as "2:4", "pair" or "quad" (see the function prune); "" or None for no pattern.
    depthwise: whether depthwise layers are pruned as others are; False: they stay dense (see keep_counts).
    seed: of all random choices. imgsz: the side in pixels of the images for which budgets count.
    price_curves: takes the network and returns the time of each Conv2d by its density, by name. Budget
    "latency" needs it; it is called once. device: for the computations of methods that need images.
    progress: whether to show progress bars.
    """

    def __init__(
        self,
        network: nn.Module,
        criterion: Method | Criterion | str = "l1",
        *,
        calibration: Sequence[Tensor] = (),
        keep: Sequence[str] = (),
        pattern: str | AnyPattern | None = None,
        depthwise: bool = False,
        seed: int = 0,
        imgsz: int = IMGSZ,
        price_curves: MeasurePrices | None = None,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        require_network(network, nn.Module)
        self.network = network
        self.method = as_method(criterion)
        self._calibration = tuple(calibration)
        self._keep = (keep,) if isinstance(keep, str) else tuple(keep)
        self._pattern = parse_pattern(pattern) if isinstance(pattern, str) else pattern
        self._depthwise, self._has_depthwise = depthwise, bool(depthwise_layers(network))
        self._imgsz, self._measure_prices = imgsz, price_curves
        self._seed, self._device, self._progress = seed, torch.device(device), progress
        self._costs: dict[str, Tensor] | None = None
        self._curves: dict[str, Curve] | None = None
        self._curves_of_prices: Mapping[str, PriceCurve] | None = None
        self._prices: dict[str, Prices | None] = {}

    def of(self, network: nn.Module) -> Pruner:
        """Return a pruner of another network of the same shapes, with the same settings and images."""
        other = copy.copy(self)
        other.network, other._costs, other._curves = network, None, None
        return other

    def on(self, device: torch.device | str, *, progress: bool) -> Pruner:
        """Return the same pruner on another device, with what it has measured; for another process."""
        other = copy.copy(self)
        other._device, other._progress = torch.device(device), progress
        if self._costs is not None:
            other._costs = {name: cost.to(other._device) for name, cost in self._costs.items()}
        return other

    def learn(self, methods: Sequence[Method]) -> None:
        """Measure now what these methods need of the network; prune would measure it when it is needed."""
        if any(method.scope == "measured" for method in methods):
            self._marginals()
        if any(method.resolved.needs_channel_costs for method in methods):
            self._channel_costs()

    @property
    def calibration(self) -> tuple[Tensor, ...]:
        """The batches of images that were given."""
        return self._calibration

    @property
    def rules(self) -> dict[str, str]:
        """The settings for all methods, as rows of figures hold them: pattern, keep and depthwise.

        depthwise: "dense" or "pruned"; "" for a network without depthwise layers.
        """
        depthwise = ("pruned" if self._depthwise else "dense") if self._has_depthwise else ""
        return {
            "pattern": str(self._pattern or UNSTRUCTURED),
            "keep": " ".join(self._keep),
            "depthwise": depthwise,
        }

    def identity(self, methods: Sequence[Method]) -> dict[str, Any]:
        """Return the settings that affect pruning by these methods, as JSON values.

        Two pruners of a network prune alike if these are equal.
        """
        about = self.rules
        if not about["depthwise"]:  # As sweeps before there was the setting have it.
            del about["depthwise"]
        if any(method.needs_calibration for method in methods):
            images = {"calibration": self.describe_images(), "calibration_seed": self._seed}
            about |= images | Obs().identity()  # The curves are measured with obs.
        if any(method.scope == "measured" for method in methods):
            about |= curve_identity()
        if any(method.budget != WEIGHTS for method in methods):
            about["budget_imgsz"] = self._imgsz
        if any_by_time(methods):
            about["price_curves"] = digest(self.price_curves())
        for method in methods:
            about |= method.resolved.identity()
        return about

    def price_curves(self) -> Mapping[str, PriceCurve]:
        """Return the price curve of each Conv2d, for the budget "latency". They are asked for once.

        Raises InputError where the pruner was given no function for them, or it does not know a layer.
        """
        if self._curves_of_prices is None:
            self._curves_of_prices = self._ask_price_curves()
        return self._curves_of_prices

    def price(self, network: nn.Module | None = None) -> float:
        """Return the sum of the layers' prices by the price curves, for the weights that are not zero.

        network: a pruned copy; None for the pruner's own network.
        """
        return price_of(self.network if network is None else network, self.price_curves())

    def least_price(self) -> float:
        """Return the price of a network in which all weights that may be pruned are zero."""
        return least_price(self.network, self.price_curves(), self._keep, depthwise=self._depthwise)

    def working_bytes(self, methods: Sequence[Method]) -> int:
        """Return an estimate of the device memory for pruning by these methods, in bytes."""
        if not any(method.needs_calibration for method in methods):
            return 0
        return sum(len(batch) * image_bytes(self.network, batch.shape[2:]) for batch in self._calibration)

    def check(self, method: Method | Criterion | str, amount: float) -> None:
        """Raise InputError where prune would raise one, before any long computation."""
        method = as_method(method)
        if method.needs_calibration and not self._calibration:
            raise InputError(no_calibration(method))
        criterion = method.resolved
        weighs = criterion.needs_channel_costs or criterion.needs_importance
        if (weighs or method.scope == "measured") and not hasattr(self.network, "importance"):
            raise InputError(
                f"{method.label} weighs the errors of the outputs, but {type(self.network).__name__} has no "
                "method `importance` that says how; a network from load is expected, or one with this method"
            )
        # Which amounts can be reached is the same for all scopes but "layer". "erk" needs no scores.
        scope = "layer" if method.scope == "layer" else "erk"
        keep_counts(self.network, amount, scope, **self._allocation, **self._priced(method))

    def prune(self, method: Method | Criterion | str | None = None, amount: float = 0.0) -> nn.Module:
        """Return a copy in which this fraction of the weights is zero, permanently.

        method: a Method, a criterion object or a name; None for the pruner's own criterion.
        amount: see keep_counts; 0 gives a dense copy.
        Raises InputError for an amount that is out of range or can't be reached, a name in keep that matches
        no layer, missing calibration images if the method needs them, or more images than memory holds.
        """
        method = self.method if method is None else as_method(method)
        self.check(method, amount)
        network = copy.deepcopy(self.network)
        if not amount:
            return network
        criterion, price = method.resolved, self._priced(method)
        if isinstance(criterion, Magnitude) and method.scope != "measured" and not price:
            return prune(network, amount, method.scope, **self._allocation)
        marginals = self._marginals() if method.scope == "measured" else None
        counts = keep_counts(network, amount, method.scope, **self._allocation, marginals=marginals, **price)
        del marginals
        context = PruningContext(pattern=self._pattern, seed=self._seed)
        if not criterion.needs_images:
            criterion.prune(network, counts, context)
            return network
        network.to(self._device)
        with self._learning(f"Pruning ({method.label}, {amount:.9g})", criterion.extra_ticks) as bar:
            costs = self._channel_costs() if criterion.needs_channel_costs else {}
            context = replace(
                context, images=self._batches(), channel_costs=costs, tick=lambda _name: bar.update()
            )
            criterion.prune(network, counts, context)
        return network.cpu()

    @property
    def _allocation(self) -> dict[str, Any]:
        """The arguments of keep_counts and prune that are the same for all methods."""
        return {"keep": self._keep, "pattern": self._pattern, "depthwise": self._depthwise}

    def _priced(self, method: Method) -> dict[str, Any]:
        """Return the arguments of keep_counts that give the prices of a method's budget; {} for none."""
        if method.budget == LATENCY:
            return {"prices": self.price_curves()}
        if method.budget not in self._prices:
            sides = (self._imgsz, self._imgsz)
            self._prices[method.budget] = prices(self.network, method.budget, sides)
        found = self._prices[method.budget]
        return {} if found is None else {"prices": found.of_weights, "fixed_price": found.fixed}

    def _ask_price_curves(self) -> Mapping[str, PriceCurve]:
        if self._measure_prices is None:
            raise InputError(
                "`budget` latency needs the time of each layer at several densities; give a function that "
                "measures it as `price_curves`"
            )
        curves = self._measure_prices(self.network)
        missing = [name for name, _ in convolutions(self.network) if name not in curves]
        if missing:
            raise InputError(
                f"`price_curves` gave no curve of {missing[0]}; one for every Conv2d is expected"
            )
        return curves

    def _marginals(self) -> dict[str, np.ndarray]:
        if self._curves is None:
            self._curves = self._measure_curves()
        return {name: curve.marginals() for name, curve in self._curves.items()}

    def _measure_curves(self) -> dict[str, Curve]:
        network = copy.deepcopy(self.network).to(self._device)
        with self._learning("Measuring layer costs") as bar:
            return measure_curves(
                network,
                self._batches(),
                self._channel_costs(),
                pattern=self._pattern,
                settings=ObsSettings(seed=self._seed),
                tick=lambda _name: bar.update(),
            )

    def _channel_costs(self) -> dict[str, Tensor]:
        """Return the channel costs of the dense network, on the device. They are computed once."""
        if self._costs is None:
            network = copy.deepcopy(self.network).to(self._device)
            some = _first(self._batches(), COST_IMAGES)
            self._costs = channel_costs(network, some, network.importance, seed=self._seed)
        return self._costs

    def _batches(self) -> list[Tensor]:
        return [batch.to(self._device) for batch in self._calibration]

    @contextmanager
    def _learning(self, title: str, more: int = 0) -> Iterator[tqdm]:
        """Show a progress bar over the layers, and more steps. Lack of memory becomes an InputError."""
        steps = sum(1 for _ in convolutions(self.network)) + more
        try:
            with progress_bar(
                total=steps, desc=title, unit="step" if more else "layer", shown=self._progress, leave=False
            ) as bar:
                yield bar
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            images = sum(map(len, self._calibration))
            raise InputError(
                f"`calib_images`: memory does not hold the feature maps of {images} images; give fewer"
            ) from error

    def describe_images(self) -> str:
        """Return how many calibration images there are, and a hash of them."""
        digest = hashlib.sha256()
        for batch in self._calibration:
            digest.update(str(tuple(batch.shape)).encode())
            digest.update(batch.cpu().contiguous().numpy())
        return f"{sum(map(len, self._calibration))} images, sha256 {digest.hexdigest()[:16]}"


def no_calibration(method: Method) -> str:
    """Return the error message for a method whose calibration images are missing."""
    by_criterion = method.resolved.needs_images
    what = f"`criterion` {method.name}" if by_criterion else f"`scope` {method.scope}"
    return f"{what} learns from images, but `calibration` is missing; give some images (no labels needed)"


def _first(batches: Sequence[Tensor], images: int) -> list[Tensor]:
    """Return some of the batches, evenly spaced, with about this many images in total."""
    every = max(1, round(sum(map(len, batches)) / images))
    return list(batches[::every])
