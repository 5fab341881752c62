"""Pruned copies of a network by any method; what calibration images teach is learnt once for all."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sparsity.calibration import image_bytes
from sparsity.errors import InputError
from sparsity.memory import is_out_of_memory
from sparsity.progress import progress_bar
from sparsity.pruning.amounts import keep_counts
from sparsity.pruning.apply import apply_masks, prune
from sparsity.pruning.criteria import magnitude_masks
from sparsity.pruning.curves import Curve, measure_curves
from sparsity.pruning.layers import convolutions
from sparsity.pruning.method import Method
from sparsity.pruning.obs import ObsSettings, prune_obs
from sparsity.pruning.patterns import Pattern, parse_pattern
from sparsity.pruning.sensitivity import channel_sensitivities
from sparsity.yolo.network import Network

UNSTRUCTURED = "unstructured"
"""What rows call no pattern."""
SENSITIVITY_IMAGES = 32
"""As many calibration images tell how much the outputs change with each layer's; 8 are nearly as good."""


class Pruner:
    """Gives pruned copies of a network, on the CPU; the network itself stays as it is.

    network: as load gives it, fused. calibration: batches of images, as read_calibration gives them.
    keep: names of layers that stay dense, with wildcards: 'model.24.*'. pattern: N:M as "2:4".
    seed: of what is drawn from the images. device: where methods that learn from images compute.
    progress: show bars.
    """

    def __init__(
        self,
        network: Network,
        *,
        calibration: Sequence[Tensor] = (),
        keep: Sequence[str] = (),
        pattern: str | Pattern | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        self.network = network
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
        """What two pruners must share to prune alike by these methods."""
        taught = any(method.needs_calibration for method in methods)
        obs = {f"obs_{name}": value for name, value in asdict(ObsSettings()).items() if name != "seed"}
        learnt = {"calibration": self._describe_images(), "calibration_seed": self._seed, **obs}
        return {**self.rules, **(learnt if taught else {})}

    def working_bytes(self, methods: Sequence[Method]) -> int:
        """About how much of the device's memory pruning by these methods takes."""
        if not any(method.needs_calibration for method in methods):
            return 0
        return sum(len(batch) * image_bytes(self.network, batch.shape[2:]) for batch in self._calibration)

    def check(self, method: Method, amount: float) -> None:
        """Raise InputError where a copy can't be pruned so: before anything is computed that takes long."""
        if method.needs_calibration and not self._calibration:
            raise InputError(no_calibration(method))
        # What can be reached depends on the scope no further, and erk's needs no scores.
        scope = "layer" if method.scope == "layer" else "erk"
        keep_counts(self.network, amount, scope, keep=self._keep, pattern=self._pattern)

    def prune(self, method: Method, amount: float) -> Network:
        """A copy with that fraction of its weights 0, as torch.nn.utils.prune makes it permanent.

        Raises InputError for an amount out of range or reach, a name in keep that matches no layer, no
        calibration images where the method needs them, or more of them than memory holds.
        """
        self.check(method, amount)
        network = copy.deepcopy(self.network)
        if not amount:
            return network
        if method.criterion == "l1" and method.scope != "measured":
            return prune(network, amount, method.scope, keep=self._keep, pattern=self._pattern)
        marginals = self._marginals() if method.scope == "measured" else None
        counts = keep_counts(
            network, amount, method.scope, keep=self._keep, pattern=self._pattern, marginals=marginals
        )
        del marginals
        if method.criterion == "l1":
            return apply_masks(network, magnitude_masks(network, counts, self._pattern))
        return self._prune_obs(network, counts, f"Pruning ({method.label}, {amount:.9g})")

    def _prune_obs(self, network: Network, counts: dict[str, int], title: str) -> Network:
        network.to(self._device)
        with self._learning(title) as bar:
            prune_obs(
                network,
                counts,
                self._batches(),
                pattern=self._pattern,
                settings=ObsSettings(seed=self._seed),
                tick=lambda _name: bar.update(),
            )
        network.cpu()
        return apply_masks(network, {name: conv.weight != 0 for name, conv in convolutions(network)})

    def _marginals(self) -> dict[str, np.ndarray]:
        if self._curves is None:
            self._curves = self._measure_curves()
        return {name: curve.marginals() for name, curve in self._curves.items()}

    def _measure_curves(self) -> dict[str, Curve]:
        network, batches = copy.deepcopy(self.network).to(self._device), self._batches()
        with self._learning("Measuring what layers cost") as bar:
            some = _first(batches, SENSITIVITY_IMAGES)
            sensitivities = channel_sensitivities(network, some, network.head.importance, seed=self._seed)
            return measure_curves(
                network,
                batches,
                sensitivities,
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
    what = "--criterion obs" if method.criterion == "obs" else f"--scope {method.scope}"
    return f"{what} learns from images: --calib FOLDER names some (no labels needed)"


def _first(batches: Sequence[Tensor], images: int) -> list[Tensor]:
    """The batches with so many images in all, taken evenly from them."""
    every = max(1, round(sum(map(len, batches)) / images))
    return list(batches[::every])
