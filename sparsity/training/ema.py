"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from sparsity.yolo.network import Network


class Average:
    """The average. It follows the weights closely at first: decay x (1 - exp(-updates / tau))."""

    def __init__(self, network: Network, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.tau, self.updates = decay, tau, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's weights. Buffers that are not floats are copied."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        current = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name].to(average), 1 - decay)
            else:
                average.copy_(current[name])
