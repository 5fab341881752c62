"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from sparsity.pruning.scaled_adam import UNIT, scaled_adam
from sparsity.training.settings import TrainingSettings

WARMUP_MOMENTUM = 0.8


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Return SGD with Nesterov momentum, AdamW, or Adam with a rate in units of each tensor (ScaledAdam).

    With SGD and AdamW, only weights of convolutions and linear layers decay; with ScaledAdam, nothing does.

    All other parameters have one dimension: biases, the scales of norms, and gamma of YOLO12, which scales
    channels.
    """
    if settings.optimizer == "ScaledAdam":
        return scaled_adam(list(network.parameters()), settings.lr0)
    decaying, others = [], []
    for parameter in network.parameters():
        (decaying if parameter.dim() > 1 else others).append(parameter)
    decay = settings.decay * settings.batch_size * settings.accumulate / settings.nominal_batch
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decaying, "weight_decay": decay}]
    if settings.optimizer == "AdamW":
        return torch.optim.AdamW(groups, lr=settings.lr0, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(groups, lr=settings.lr0, momentum=settings.momentum, nesterov=True)


def set_rates(optimizer: Optimizer, settings: TrainingSettings, epoch: float) -> float:
    """Set the learning rate and momentum for a moment of training. Returns the learning rate.

    epoch: with fractions. The learning rate follows a cosine from lr0 to lr0 x lrf. During the warm-up it
    rises from 0 to this cosine, and SGD's momentum rises from 0.8.
    """
    cosine = (1 + math.cos(math.pi * min(epoch / settings.epochs, 1.0))) / 2
    warm = min(epoch / settings.warmup, 1.0) if settings.warmup else 1.0
    rate = settings.lr0 * (settings.lrf + (1 - settings.lrf) * cosine) * warm
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(UNIT, 1.0)
        if "momentum" in group:
            low = min(WARMUP_MOMENTUM, settings.momentum)
            group["momentum"] = low + (settings.momentum - low) * warm
    return rate
