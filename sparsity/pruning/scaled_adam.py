"""Adam with a rate in units of each tensor, so that one rate fits networks of any size and family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.99)
UNIT = "unit"
"""The key of a parameter group that holds the unit of its rate."""


def scaled_adam(parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.Adam:
    """Return Adam with a group for each parameter. Its rate is rate times its unit.

    rate: about the largest change of an output of a layer in a step, as a share of its size.
    """
    units = [_unit(parameter.detach()) for parameter in parameters]
    groups = [
        {"params": [parameter], "lr": rate * unit, UNIT: unit}
        for parameter, unit in zip(parameters, units, strict=True)
    ]
    return torch.optim.Adam(groups, betas=BETAS)


def _unit(tensor: Tensor) -> float:
    """Return the root mean square of the nonzero numbers; of weights, divided by the root of those in a row.

    Adam changes the weights of an output together. If they all change in one direction, and the inputs have a
    mean, then the change of the output grows with their number, while its size grows with the root of it.
    """
    kept = tensor[tensor != 0]
    if not len(kept):
        return 0.0
    size = float(kept.square().mean().sqrt())
    return size / math.sqrt(max(1.0, len(kept) / len(tensor))) if tensor.dim() > 1 else size
