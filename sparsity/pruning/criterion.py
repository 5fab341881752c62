"""The base classes of criteria. A criterion decides which weights of each Conv2d become zero."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from sparsity.pruning.apply import apply_masks
from sparsity.pruning.layers import convolutions
from sparsity.pruning.patterns import AnyPattern, select
from sparsity.pruning.scopes import Scope


@dataclass(frozen=True)
class PruningContext:
    """What a criterion can use while it prunes.

    images: calibration batches, float32 [n, 3, height, width], on the network's device; empty if the
    criterion does not need images. channel_costs: the cost of errors in the channels of each Conv2d, by name,
    [groups, rows, rows] (see channel_costs.channel_costs); empty if the criterion does not need them.
    pattern: N:M or blocks, or None. seed: of all random choices.
    tick: to be called with the name of each finished layer; it advances the progress bar.
    """

    images: Sequence[Tensor] = field(default=(), repr=False)
    channel_costs: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    pattern: AnyPattern | None = None
    seed: int = 0
    tick: Callable[[str], None] = lambda _name: None


class Criterion(ABC):
    """Decides which weights become zero, given how many weights each layer keeps.

    For your own criterion, make a subclass, and pass an instance to Pruner, Method or sweep().

    name: the name in tables, files and on the command line. title: a short description, for reports.
    own_scope: the allocation among the layers if no scope is given (see keep_counts).
    needs_images: whether prune needs calibration images. needs_channel_costs: whether it also needs the cost
    of errors in the channels, which are computed from these images.
    updates_weights: whether prune also changes kept weights.
    needs_importance: whether the network must have a method importance (see pruner.Prunable), as it also must
    for channel costs. extra_ticks: how often prune calls tick besides once for each layer.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    own_scope: ClassVar[Scope] = "layer"
    needs_images: ClassVar[bool] = False
    needs_channel_costs: ClassVar[bool] = False
    updates_weights: ClassVar[bool] = False
    needs_importance: ClassVar[bool] = False
    extra_ticks: ClassVar[int] = 0

    @abstractmethod
    def prune(self, network: nn.Module, counts: Mapping[str, int], context: PruningContext) -> None:
        """Prune a fused network in place. Each named Conv2d keeps counts[name] weights.

        network: in evaluation mode, without gradients. If the context has images, it is on their device.
        Raises InputError for input that can't be used.
        """

    def identity(self) -> dict[str, Any]:
        """Return the settings that affect what prune does, as JSON values. A resumed sweep compares them."""
        return {}


class ScoreCriterion(Criterion):
    """A criterion that scores each weight. The weights with the lowest scores in a layer become zero."""

    @abstractmethod
    def scores(self, name: str, conv: nn.Conv2d) -> Tensor:
        """Return a finite score for each weight: [out, in / groups, height, width]. High scores are kept."""

    def prune(self, network: nn.Module, counts: Mapping[str, int], context: PruningContext) -> None:
        apply_masks(network, self.masks(network, counts, context.pattern))

    def masks(
        self, network: nn.Module, counts: Mapping[str, int], pattern: AnyPattern | None = None
    ) -> dict[str, Tensor]:
        """Return bool masks by the name of the Conv2d: True for the counts[name] highest scores.

        Layers that are not in counts get no mask. pattern: applied to the layers that fit it and are not
        dense. The score of a block is the sum of its weights' scores.
        Raises InputError for a score that is NaN or a count out of range.
        """
        masks = {}
        for name, conv in convolutions(network):
            if name in counts:
                weight = conv.weight.detach()
                patterned = pattern and counts[name] < weight.numel() and pattern.fits(weight.shape)
                scores = self.scores(name, conv).detach()
                masks[name] = select(scores, counts[name], pattern if patterned else None)
        return masks
