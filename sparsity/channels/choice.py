"""The choice of the channels to keep: one threshold over all scores, and a minimum for each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity.channels.slimming_settings import SlimmingSettings


@dataclass(frozen=True, eq=False)
class Choice:
    """The channels to keep.

    keep: bool [identities]. threshold: the largest score that is cut, 0 where nothing is cut.
    safe_threshold: the smallest, over the layers, of a layer's largest score. Channels below it can be cut
    without emptying a layer. safe_percent: these channels, as a fraction of the free channels.
    """

    keep: Tensor
    threshold: float
    safe_threshold: float
    safe_percent: float


def choose(
    scores: Tensor,
    free: Tensor,
    layers: Sequence[Tensor],
    settings: SlimmingSettings,
    heads: Tensor | None = None,
) -> Choice:
    """Cut the free channels with the lowest scores, but keep the minimum of each layer.

    scores: float [identities]. free: bool [identities], with at least one True. layers: for each layer, the
    identities of its output channels, int64 [channels]. heads: bool [identities], heads of attention, whose
    number is not rounded.
    """
    places = free.nonzero().flatten()
    order = places[scores[places].argsort(stable=True)]
    count = round(settings.percent * len(order))
    keep = torch.ones_like(free)
    keep[order[:count]] = False
    largest = [float(scores[outputs].max()) for outputs in layers if free[outputs].all()]
    safe = min(largest, default=float(scores[places].max()))
    below = int((scores[places] < safe).sum())
    counted = [outputs for outputs in layers if heads is None or not heads[outputs].any()]
    _restore(keep, scores, layers, counted, settings)
    threshold = 0.0 if keep.all() else float(scores[~keep].max())
    return Choice(keep, threshold, safe, below / len(order))


def _restore(
    keep: Tensor,
    scores: Tensor,
    layers: Sequence[Tensor],
    rounded: Sequence[Tensor],
    settings: SlimmingSettings,
) -> None:
    """Restore, in place, the cut channels with the highest scores that the minimum of each layer requires.

    rounded: those of the layers that round_to applies to.
    This is repeated, because a restored channel can belong to other layers too. For round_to, channels with
    the same identity count once: each half of C2f's first convolution becomes a multiple, because the next
    layers read a half.
    """
    kept = -1
    while kept != int(keep.sum()):
        kept = int(keep.sum())
        for outputs in layers:
            _bring_back(keep, scores, outputs, min(settings.min_channels, len(outputs)))
        for outputs in rounded:
            own = outputs.unique()
            wanted = math.ceil(int(keep[own].sum()) / settings.round_to) * settings.round_to
            _bring_back(keep, scores, own, min(wanted, len(own)))


def _bring_back(keep: Tensor, scores: Tensor, outputs: Tensor, wanted: int) -> None:
    gone = outputs[~keep[outputs]].unique()
    for place in gone[scores[gone].argsort(descending=True, stable=True)].tolist():
        if int(keep[outputs].sum()) >= wanted:
            return
        keep[place] = True
