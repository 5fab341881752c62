"""What a table of slimming holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlimmedLayer:
    """A Conv2d's output channels, before and after. free: how many could have gone."""

    layer: str
    before: int
    free: int
    after: int


@dataclass(frozen=True)
class Extent:
    """How far slimming went; channels that are tied count once.

    free: how many channels could go. removed: how many did. threshold, safe_threshold, safe_percent: the
    largest score that went (0 where none did), and how far one can go, as choice.Choice has them.
    """

    free: int
    removed: int
    threshold: float
    safe_threshold: float
    safe_percent: float


@dataclass(frozen=True)
class Figures:
    """A network's cost and worth.

    parameters: batch norms' included. gflops: two operations for each product of the convolutions, at the
    image size asked for, in 1e9. size_pt_mb, size_safetensors_mb: of its files, in 1e6 bytes. AP, AP50:
    pycocotools'; -1 where it was not validated.
    """

    parameters: int
    gflops: float
    size_pt_mb: float
    size_safetensors_mb: float
    AP: float = -1.0
    AP50: float = -1.0
