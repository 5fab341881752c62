"""Folding of constants: the output of a channel with scale 0 is added to the convolutions that read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.channels.constants import add_to_bias, constant_shift, pass_on
from sparsity.channels.graph import Channels, Step
from sparsity.yolo.blocks import Conv
from sparsity.yolo.network import Network


@torch.no_grad()
def fold_constants(network: Network, channels: Channels, keep: Tensor) -> None:
    """Fold the constant outputs of the channels to cut into biases or running means, in place.

    With scale 0, the output of a channel is a constant: the shift of its batch norm, passed through the
    activation, plus what is added to it. keep: bool [identities], the channels not to cut.
    When the channel is cut, a convolution without padding that reads it gives the same outputs as before the
    cut. With padding, all cells are the same except those whose window reaches over the border.
    """
    gone = ~keep[channels.identity]
    constants = torch.full((len(gone),), torch.nan, dtype=torch.float64)
    for step in channels.steps:
        module = network.get_submodule(step.module) if step.module else None
        inputs = [constants[x] for x in step.inputs]
        if isinstance(module, nn.Conv2d) and module.groups == 1 and inputs[0].isfinite().any():
            _fold_into(network, step, module, inputs[0])
        constants[step.outputs] = _outputs(step, module, inputs).masked_fill(~gone[step.outputs], torch.nan)


def _outputs(step: Step, module: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    """Return the constants that a step gives if its scale, or its filter, is 0."""
    if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return pass_on(module, inputs)
    if module.bias is None:
        return torch.zeros(len(step.outputs), dtype=torch.float64)
    return module.bias.double().cpu()


def _fold_into(network: Network, step: Step, conv: nn.Conv2d, inputs: Tensor) -> None:
    shift = constant_shift(conv, inputs, inputs.isfinite())
    block = network.get_submodule(step.module.rpartition(".")[0])
    if isinstance(block, Conv) and block.bn is not None:
        block.bn.running_mean.sub_(shift.to(conv.weight.device, conv.weight.dtype))
    else:
        add_to_bias(conv, shift)
