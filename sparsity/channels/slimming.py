"""Network slimming: cut the channels with small scales from a network with batch norms (arXiv:1708.06519)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.channels.choice import choose
from sparsity.channels.cutting import cut
from sparsity.channels.folding import fold_constants
from sparsity.channels.graph import Channels, trace_channels
from sparsity.channels.scores import channel_scores, free_channels
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.channels.slimming_table import Extent, SlimmedLayer
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import Network


@dataclass(frozen=True)
class Slimmed:
    """A network with fewer channels, and a record of the cut.

    network: an ordinary network, in evaluation mode, with batch norms. layers: every Conv2d, in the network's
    order. extent: how much was cut.
    """

    network: Network = field(repr=False)
    layers: tuple[SlimmedLayer, ...] = field(repr=False)
    extent: Extent


def slim(network: Network, settings: SlimmingSettings) -> Slimmed:
    """Cut the channels with the lowest scores. network is not changed.

    network: as load returns it with fused=False; by "l1" also accepts a fused network. Raises InputError
    where no channel can be cut with these settings.
    """
    channels = trace_channels(network)
    scores = channel_scores(network, channels, settings.by)
    free = free_channels(channels, tied=settings.tied) & scores.isfinite()
    if not free.any():
        raise InputError(_nothing_free(network, scores, settings))
    outputs = [channels.layers[name].outputs for name, _ in convolutions(network) if name in channels.layers]
    layers = [one for one in outputs if free[one].any()]
    choice = choose(scores, free, layers, settings, channels.heads)
    work = network
    if settings.fold:
        work = copy.deepcopy(network)
        fold_constants(work, channels, choice.keep)
    extent = Extent(
        int(free.sum()),
        int((~choice.keep).sum()),
        choice.threshold,
        choice.safe_threshold,
        choice.safe_percent,
    )
    return Slimmed(cut(work, channels, choice.keep), _rows(network, channels, free, choice.keep), extent)


def _nothing_free(network: Network, scores: Tensor, settings: SlimmingSettings) -> str:
    if settings.by == "bn" and not scores.isfinite().any():
        return (
            "`by` bn reads the scales of batch norms, but those of this network are folded into its "
            "convolutions already; give the checkpoint that it was made from (last.pt and best.pt of "
            "finetune.py have batch norms), or `by` l1, which needs none"
        )
    return (
        f"no channel can be cut: all {len(scores)} are tied by additions or pinned; "
        "give `tied` to cut tied channels too"
    )


def _rows(network: Network, channels: Channels, free: Tensor, keep: Tensor) -> tuple[SlimmedLayer, ...]:
    rows = []
    for name, conv in convolutions(network):
        ends, count = channels.layers.get(name), conv.out_channels
        able, after = (0, count) if ends is None else (int(x[ends.outputs].sum()) for x in (free, keep))
        rows.append(SlimmedLayer(name, count, able, after))
    return tuple(rows)
