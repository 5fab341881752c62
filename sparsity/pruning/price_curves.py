"""Price curves: the price of a layer, such as its time, at several densities."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from sparsity.base.errors import InputError
from sparsity.pruning.layers import convolutions


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


MeasurePrices: TypeAlias = Callable[[nn.Module], Mapping[str, PriceCurve]]
"""Takes a network and returns the price curve of each Conv2d, by name."""


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


def sum_prices(counts: Mapping[str, float], prices: Mapping[str, LayerPrice]) -> float:
    """Return the sum of the layers' prices if they keep these counts."""
    return sum(float(prices[name].at(count)) for name, count in counts.items())


def per_weight(price: float, weights: int) -> PriceCurve:
    """Return the price curve of a layer in which every weight has this price."""
    return PriceCurve((0.0, 1.0), (0.0, float(price) * weights))


def price_of(network: nn.Module, curves: Mapping[str, PriceCurve]) -> float:
    """Return the sum of the prices of a network's Conv2d, by their weights that are not zero."""
    kept = {name: int(torch.count_nonzero(conv.weight)) for name, conv in convolutions(network)}
    prices = {name: LayerPrice(curves[name], conv.weight.numel()) for name, conv in convolutions(network)}
    return sum_prices(kept, prices)


def as_record(curves: Mapping[str, PriceCurve]) -> dict[str, Any]:
    """Return price curves as JSON values; read_record reads them."""
    return {
        name: {"densities": list(one.densities), "costs": list(one.costs)} for name, one in curves.items()
    }


def read_record(record: Any) -> dict[str, PriceCurve] | None:
    """Return the price curves that as_record has written; None where they are missing or damaged."""
    try:
        return {
            name: PriceCurve(tuple(one["densities"]), tuple(one["costs"])) for name, one in record.items()
        }
    except (InputError, AttributeError, TypeError, KeyError):
        return None


def digest(curves: Mapping[str, PriceCurve]) -> str:
    """Return a digest of price curves."""
    text = json.dumps(as_record(curves), sort_keys=True)
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
