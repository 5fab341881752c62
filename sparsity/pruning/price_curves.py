"""Price curves: the price of a layer, such as its time, at several densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparsity.base.errors import InputError


@dataclass(frozen=True)
class PriceCurve:
    """The price of a layer by its density, linear between the given points.

    densities: shares of weights that are kept, rising from 0 to 1. costs: the prices there, 0 or more, in any
    unit that is the same for all layers. The price at density 0 can be more than 0. A price below that of a
    smaller density counts as noise and is raised to it, so that prices never fall.
    Raises InputError for other densities or costs.
    """

    densities: tuple[float, ...]
    costs: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.densities, self.densities[1:], strict=False))
        if not rising or self.densities[:1] != (0,) or self.densities[-1:] != (1,):
            raise InputError(f"`densities` is {self.densities}; rising numbers from 0 to 1 are expected")
        if len(self.costs) != len(self.densities):
            raise InputError(
                f"`costs` holds {len(self.costs)} numbers; {len(self.densities)} are expected, one a density"
            )
        if not all(math.isfinite(cost) and cost >= 0 for cost in self.costs):
            raise InputError(f"`costs` is {self.costs}; finite numbers of 0 or more are expected")

    def at(self, densities: np.ndarray | float) -> np.ndarray:
        """Return the price at these densities."""
        return np.interp(densities, self.densities, np.maximum.accumulate(self.costs))


@dataclass(frozen=True)
class LayerPrice:
    """The price of a layer by the number of its weights that are kept. weights: all of them."""

    curve: PriceCurve
    weights: int

    def at(self, kept: np.ndarray | float) -> np.ndarray:
        """Return the price of these numbers of kept weights."""
        return self.curve.at(np.asarray(kept) / self.weights)

    def most_within(self, price: float, low: int, high: int) -> int:
        """Return the largest number of kept weights from low to high with at most this price; low if none."""
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.at(middle) <= price else (low, middle - 1)
        return low


def per_weight(price: float, weights: int) -> PriceCurve:
    """Return the price curve of a layer in which every weight has this price."""
    return PriceCurve((0.0, 1.0), (0.0, float(price) * weights))
