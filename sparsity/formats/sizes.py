"""The size of a network in each saved form, and the size that its entropy suggests."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields

from sparsity.formats import compressed, pt
from sparsity.formats.half import round_to_half
from sparsity.yolo.network import Network

MB = 1e6


@dataclass(frozen=True)
class Sizes:
    """Megabytes (1e6 bytes) of a network's files, rounded to half precision.

    size_dense_mb: the .pt of the dense network.
    size_pt_mb: the .pt of this network. Zeros take as much space as other numbers.
    size_safetensors_mb: the compressed form.
    size_bound_mb: the entropy of the zeros' places, and 16 bits for each other weight. The compressed form
    can be smaller, because weights have patterns.
    """

    size_dense_mb: float
    size_pt_mb: float
    size_safetensors_mb: float
    size_bound_mb: float


SIZE_COLUMNS = tuple(field.name for field in fields(Sizes))


def measure_sizes(network: Network, dense: Sizes | None = None) -> Sizes:
    """Return the sizes of a fused network's files. dense: the dense network's sizes, None if this is it."""
    rounded = round_to_half(copy.deepcopy(network))
    checkpoint = len(pt.encode(rounded)) / MB
    return Sizes(
        checkpoint if dense is None else dense.size_dense_mb,
        checkpoint,
        len(compressed.encode(rounded)) / MB,
        compressed.entropy_bound_bytes(rounded) / MB,
    )
