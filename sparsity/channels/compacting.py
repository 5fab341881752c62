"""Removal of dead channels from a pruned network. The network computes the same with fewer channels."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from sparsity.channels.constants import add_to_bias, constant_shift, is_depthwise, normalised, pass_on
from sparsity.channels.cutting import cut
from sparsity.channels.graph import Channels, Step, operation, trace_channels
from sparsity.pruning.layers import convolutions
from sparsity.yolo.network import Network

NEGLIGIBLE = 1e-8
"""A constant below this magnitude counts as 0: float32 loses it in the sum."""
COMPARABLE = 1 / 8
"""A constant can replace another if it is at least this fraction of it. This limits the growth of weights."""


@dataclass(frozen=True)
class CompactedLayer:
    """A Conv2d before and after: its name and its shapes [out, in / groups, height, width].

    removed: the output channels that were removed, by their indices before.
    """

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    removed: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class Compacted:
    """A network without dead channels, and each Conv2d before and after, in the network's order."""

    network: Network
    layers: tuple[CompactedLayer, ...]

    @property
    def channels_before(self) -> int:
        """The number of output channels of all Conv2d, before."""
        return sum(layer.before[0] for layer in self.layers)

    @property
    def channels_after(self) -> int:
        """The number of output channels of all Conv2d, after."""
        return sum(layer.after[0] for layer in self.layers)

    @property
    def weights_before(self) -> int:
        """The number of weights of all Conv2d, including zeros, before."""
        return sum(prod(layer.before) for layer in self.layers)

    @property
    def weights_after(self) -> int:
        """The number of weights of all Conv2d, including zeros, after."""
        return sum(prod(layer.after) for layer in self.layers)


def compact(network: Network) -> Compacted:
    """Remove the channels that are dead or that no layer reads. The network itself is not changed.

    A channel is dead if it has the same value for every image, because all weights of its filter are 0. The
    effect of this constant is folded into the biases of the convolutions that read it. A convolution with
    padding does not see the constant at the borders. There, one constant channel is kept for all constant
    channels that the convolution reads. One channel of each layer is always kept.
    network: fused, as load returns it. The result is in evaluation mode. Its raw maps are equal up to
    rounding. If nothing can be removed, its weights are equal too.
    """
    channels = trace_channels(network)
    work = copy.deepcopy(network)
    with torch.no_grad():
        keep = _Emptying(work, channels).run()
    smaller = cut(network if keep.all() else work, channels, keep)
    after = dict(convolutions(smaller))
    layers = tuple(
        CompactedLayer(
            name,
            tuple(conv.weight.shape),
            tuple(after[name].weight.shape),
            _removed(channels, name, keep),
        )
        for name, conv in convolutions(network)
    )
    return Compacted(smaller, layers)


def _removed(channels: Channels, name: str, keep: Tensor) -> tuple[int, ...]:
    if name not in channels.layers:
        return ()
    return tuple((~keep[channels.layers[name].outputs]).nonzero().flatten().tolist())


class _Emptying:
    """Sets weights that do not affect the network's outputs to 0, in place, until there are no more.

    Channels that no weight reads can then be removed.
    """

    def __init__(self, network: Network, channels: Channels) -> None:
        self.network, self.channels = network, channels
        self.fixed = channels.pinned[channels.identity]
        self.convs = [s for s in channels.steps if isinstance(operation(network, s), nn.Conv2d)]
        self.dense = [s for s in self.convs if operation(network, s).groups == 1]
        self.uses = {s.module: _uses(operation(network, s)) for s in self.dense}
        self.constants = torch.empty(0)

    def run(self) -> Tensor:
        """Set the weights to 0. Return which identities the network still needs: bool [identities]."""
        changed = True
        while changed:
            changed = self.fold() | self.silence()
            if not changed:
                changed = self.merge()
        return self._needed()

    def fold(self) -> bool:
        """Find the constant values, and fold their effect into biases. Return whether anything changed.

        The steps are visited in order, because a filter that reads only constants gives a constant too.
        """
        self.constants = torch.full((len(self.fixed),), torch.nan, dtype=torch.float64)
        changed = False
        for step in self.channels.steps:
            module, inputs = operation(self.network, step), [self.constants[x] for x in step.inputs]
            if isinstance(module, nn.Conv2d):
                moved, outputs = self._fold_into(step, module, inputs[0])
                changed |= moved
            elif isinstance(module, nn.BatchNorm2d):
                outputs = normalised(module, inputs[0])
            else:
                outputs = pass_on(module, inputs)
            # An operation that the trace does not know can write to pinned values: they are not constant.
            self.constants[step.outputs] = outputs.masked_fill(self.fixed[step.outputs], torch.nan)
        return changed

    def _fold_into(self, step: Step, conv: nn.Conv2d, inputs: Tensor) -> tuple[bool, Tensor]:
        """Fold constant inputs into a convolution. Return whether it changed, and its constant outputs."""
        if conv.groups == 1:
            uses = self.uses[step.module]
        elif is_depthwise(conv):
            uses = torch.diag(_uses(conv)[:, 0])
        else:
            return False, torch.full((conv.out_channels,), torch.nan, dtype=torch.float64)
        known = inputs.isfinite() & ((inputs.abs() < NEGLIGIBLE) | _is_unpadded(conv))
        known &= uses.any(0)
        if known.any():
            if _is_unpadded(conv):
                add_to_bias(conv, constant_shift(conv, inputs, known))
            _clear(conv, known)
            uses[:, known] = False
        outputs = torch.zeros(conv.out_channels, dtype=torch.float64)
        outputs = outputs if conv.bias is None else conv.bias.double().cpu()
        return bool(known.any()), outputs.masked_fill(uses.any(1), torch.nan)

    def silence(self) -> bool:
        """Set the filters that no layer reads to 0. Return whether anything changed."""
        readers, changed = self._readers(), False
        for step in reversed(self.dense):
            uses = self.uses[step.module]
            unread = (readers == 0)[self.channels.identity[step.outputs]]
            rows = unread & uses.any(1) & ~self.fixed[step.outputs]
            if rows.any():
                conv, before = operation(self.network, step), uses.any(0)
                conv.weight[rows.to(conv.weight.device)] = 0
                uses[rows] = False
                lost = self.channels.identity[step.inputs[0]][before & ~uses.any(0)]
                readers.index_add_(0, lost, -torch.ones_like(lost))
                changed = True
        return changed

    def merge(self) -> bool:
        """Let each padded convolution read one constant channel instead of several.

        Return whether anything changed.
        """
        standing = {s.module: self._constants_read(s) for s in self.dense}
        ids = {s.module: self.channels.identity[s.inputs[0]] for s in self.dense}
        staying = self.channels.pinned.clone()
        votes: Counter[int] = Counter()
        for name, constant in standing.items():
            staying[ids[name][self.uses[name].any(0) & ~constant]] = True
            votes.update(ids[name][constant].unique().tolist())
        changed = False
        for step in self.dense:
            places, named = standing[step.module].nonzero().flatten(), ids[step.module]
            removable = set(named[places][~staying[named[places]]].tolist())
            if len(set(named[places].tolist())) < 2 or not removable:
                continue
            values = self.constants[step.inputs[0]]
            near = places[values[places].abs() >= COMPARABLE * values[places].abs().max()]
            best = max(
                near.tolist(), key=lambda p: (bool(staying[named[p]]), votes[int(named[p])], abs(values[p]))
            )
            self._gather(step, places, best, values)
            changed = True
        return changed

    def _constants_read(self, step: Step) -> Tensor:
        """Return which inputs are constant and still read, as they can't be folded: bool [in_channels]."""
        return self.constants[step.inputs[0]].isfinite() & self.uses[step.module].any(0)

    def _gather(self, step: Step, places: Tensor, best: int, values: Tensor) -> None:
        conv = operation(self.network, step)
        shares = (values[places] / values[best]).to(conv.weight.device)
        kernel = torch.einsum("oihw,i->ohw", conv.weight[:, places].double(), shares)
        conv.weight[:, places] = 0
        conv.weight[:, best] = kernel.to(conv.weight.dtype)
        self.uses[step.module][:, places] = False
        self.uses[step.module][:, best] = (conv.weight[:, best] != 0).flatten(1).any(1).cpu()

    def _readers(self) -> Tensor:
        """Return how many inputs of convolutions read each identity with a weight other than 0.

        int64 [identities].
        """
        readers = torch.zeros(len(self.channels.pinned), dtype=torch.int64)
        for step in self.dense:
            read = self.channels.identity[step.inputs[0]][self.uses[step.module].any(0)]
            readers.index_add_(0, read, torch.ones_like(read))
        return readers

    def _needed(self) -> Tensor:
        """Return the identities that are read or pinned, and one of each layer: bool [identities]."""
        needed = (self._readers() > 0) | self.channels.pinned
        for ends in self.channels.layers.values():
            for side in (ends.inputs, ends.outputs):
                if not needed[side].any():
                    needed[side[0]] = True
        return needed


def _uses(conv: nn.Conv2d) -> Tensor:
    """Return which filter reads which input with a weight other than 0: bool [out, in / groups]."""
    return (conv.weight.detach() != 0).flatten(2).any(2).cpu()


def _is_unpadded(conv: nn.Conv2d) -> bool:
    return conv.padding == (0, 0)


def _clear(conv: nn.Conv2d, inputs: Tensor) -> None:
    """Set the weights for these inputs (bool [in_channels]) to 0."""
    inputs = inputs.to(conv.weight.device)
    if conv.groups == 1:
        conv.weight[:, inputs] = 0
    else:
        conv.weight[inputs] = 0
