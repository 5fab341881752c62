"""The rows of the tables that slimming writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlimmedLayer:
    """The number of output channels of a Conv2d, before and after. free: how many could be cut."""

    layer: str
    before: int
    free: int
    after: int


@dataclass(frozen=True)
class Extent:
    """How much slimming cut. Tied channels count once.

    free: how many channels could be cut. removed: how many were cut. threshold: the largest score that was
    cut (0 where none was). safe_threshold, safe_percent: how much can be cut without emptying a layer (see
    choice.Choice).
    """

    free: int
    removed: int
    threshold: float
    safe_threshold: float
    safe_percent: float


@dataclass(frozen=True)
class Figures:
    """The cost and the accuracy of a network.

    parameters: with those of batch norms. gflops: two operations for each multiplication of the convolutions,
    at the given image size, in 1e9. size_pt_mb, size_safetensors_mb: sizes of its files, in 1e6 bytes. AP,
    AP50: of pycocotools; -1 where it was not validated.
    """

    parameters: int
    gflops: float
    size_pt_mb: float
    size_safetensors_mb: float
    AP: float = -1.0
    AP50: float = -1.0
