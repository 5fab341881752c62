"""How many bytes a network takes in each saved form, and how few it could."""

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

    size_dense_mb: the dense network's .pt. size_pt_mb: this one's; zeros take as much room as any number.
    size_safetensors_mb: the compressed form. size_bound_mb: where the zeros are (their entropy) and 16 bit
    for each weight that is none, which the compressed form may fall below, since weights have patterns.
    """

    size_dense_mb: float
    size_pt_mb: float
    size_safetensors_mb: float
    size_bound_mb: float


SIZE_COLUMNS = tuple(field.name for field in fields(Sizes))


def measure_sizes(network: Network, dense: Sizes | None = None) -> Sizes:
    """The sizes of a fused network's files. dense: the dense network's; without, it is that itself."""
    rounded = round_to_half(copy.deepcopy(network))
    checkpoint = len(pt.encode(rounded)) / MB
    return Sizes(
        checkpoint if dense is None else dense.size_dense_mb,
        checkpoint,
        len(compressed.encode(rounded)) / MB,
        compressed.entropy_bound_bytes(rounded) / MB,
    )
