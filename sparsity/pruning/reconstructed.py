"""A criterion, followed by a reconstruction on the calibration images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from sparsity.pruning.criteria import CRITERIA
from sparsity.pruning.criterion import Criterion, PruningContext
from sparsity.pruning.reconstruction import ReconstructionSettings, reconstruct
from sparsity.pruning.scopes import Scope


@dataclass(frozen=True)
class Reconstructed(Criterion):
    """Prunes by another criterion, then trains the kept weights on the calibration images (see reconstruct).

    inner: the criterion, or its name. settings: of the reconstruction.
    The network must have a method importance, as one from load has.
    Raises InputError for an unknown name.
    """

    inner: Criterion | str = "obs"
    settings: ReconstructionSettings = field(default_factory=ReconstructionSettings)

    needs_images = True
    needs_importance = True
    updates_weights = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Criterion):
            CRITERIA.check(self.inner)

    @property
    def criterion(self) -> Criterion:
        """The inner criterion, as an object."""
        return self.inner if isinstance(self.inner, Criterion) else CRITERIA[self.inner]()

    @property
    def name(self) -> str:
        """The inner criterion's name, and that the network is reconstructed."""
        return f"{self.criterion.name}+reconstruct"

    @property
    def title(self) -> str:
        """The inner criterion's title, and the number of steps."""
        return f"{self.criterion.title}, {self.settings.steps} steps of reconstruction"

    @property
    def own_scope(self) -> Scope:
        """The inner criterion's own scope."""
        return self.criterion.own_scope

    @property
    def needs_channel_costs(self) -> bool:
        """Whether the inner criterion needs channel costs."""
        return self.criterion.needs_channel_costs

    @property
    def extra_ticks(self) -> int:
        """The steps."""
        return self.settings.steps

    def prune(self, network: nn.Module, counts: Mapping[str, int], context: PruningContext) -> None:
        dense = copy.deepcopy(network)
        self.criterion.prune(network, counts, context)
        reconstruct(
            network,
            dense,
            context.images,
            network.importance,
            settings=replace(self.settings, seed=context.seed),
            tick=lambda: context.tick(""),
        )

    def identity(self) -> dict[str, Any]:
        about = {f"reconstruction_{name}": value for name, value in asdict(self.settings).items()}
        del about["reconstruction_seed"]  # That of the pruner counts.
        return self.criterion.identity() | about
