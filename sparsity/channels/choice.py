"""Which channels stay: one threshold over all scores, and what every layer keeps in spite of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.channels.slimming_settings import SlimmingSettings


@dataclass(frozen=True, eq=False)
class Choice:
    """What stays.

    keep: bool [identities]. threshold: the largest score that goes, 0 where nothing does.
    safe_threshold: the least of the layers' largest scores; what is below it can go without emptying a
    layer. safe_percent: how many of the free channels that are, as a share.
    """

    keep: Tensor
    threshold: float
    safe_threshold: float
    safe_percent: float


def choose(scores: Tensor, free: Tensor, layers: Sequence[Tensor], settings: SlimmingSettings) -> Choice:
    """Let the free channels of the lowest scores go, but not more of a layer than it can spare.

    scores: float [identities]. free: bool [identities], some of them. layers: int64 [channels] each, the
    identities that a layer gives.
    """
    places = free.nonzero().flatten()
    order = places[scores[places].argsort(stable=True)]
    count = round(settings.percent * len(order))
    keep = torch.ones_like(free)
    keep[order[:count]] = False
    largest = [float(scores[outputs].max()) for outputs in layers if free[outputs].all()]
    safe = min(largest, default=float(scores[places].max()))
    below = int((scores[places] < safe).sum())
    _spare(keep, scores, layers, settings)
    threshold = 0.0 if keep.all() else float(scores[~keep].max())
    return Choice(keep, threshold, safe, below / len(order))


def _spare(keep: Tensor, scores: Tensor, layers: Sequence[Tensor], settings: SlimmingSettings) -> None:
    """Bring back, in place, the best of what each layer can't spare.

    Again and again, since what one layer takes back another may share. Multiples are counted with channels
    that are one taken once: each half of C2f's first convolution becomes one, as what reads a half sees it.
    """
    kept = -1
    while kept != int(keep.sum()):
        kept = int(keep.sum())
        for outputs in layers:
            _bring_back(keep, scores, outputs, min(settings.min_channels, len(outputs)))
            own = outputs.unique()
            wanted = math.ceil(int(keep[own].sum()) / settings.round_to) * settings.round_to
            _bring_back(keep, scores, own, min(wanted, len(own)))


def _bring_back(keep: Tensor, scores: Tensor, outputs: Tensor, wanted: int) -> None:
    gone = outputs[~keep[outputs]].unique()
    for place in gone[scores[gone].argsort(descending=True, stable=True)].tolist():
        if int(keep[outputs].sum()) >= wanted:
            return
        keep[place] = True
