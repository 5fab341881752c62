"""Folding of constants: the output of a channel with scale 0 is added to the convolutions that read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.channels.constants import add_to_bias, constant_shift, is_depthwise, normalised, pass_on
from sparsity.channels.graph import Channels, Step, operation
from sparsity.yolo.blocks import Conv
from sparsity.yolo.network import Network


@torch.no_grad()
def fold_constants(network: Network, channels: Channels, keep: Tensor) -> None:
    """Fold the constant outputs of the channels to cut into biases or running means, in place.

    With scale 0, the output of a channel is a constant: the shift of its batch norm, passed through the
    activation and through depthwise convolutions, plus what is added to it. keep: bool [identities], the
    channels not to cut.
    When the channel is cut, a convolution without padding that reads it gives the same outputs as before the
    cut. With padding, all cells are the same except those whose window reaches over the border.
    """
    gone = ~keep[channels.identity]
    constants = torch.full((len(gone),), torch.nan, dtype=torch.float64)
    filtered = torch.zeros_like(gone)
    for step in channels.steps:
        module = operation(network, step)
        inputs = [constants[x] for x in step.inputs]
        if isinstance(module, nn.Conv2d) and module.groups == 1 and inputs[0].isfinite().any():
            _fold_into(network, step, module, inputs[0])
        outputs = _outputs(step, module, inputs, filtered)
        constants[step.outputs] = outputs.masked_fill(~gone[step.outputs], torch.nan)
        filtered[step.outputs] = isinstance(module, nn.Conv2d) and is_depthwise(module)


def _outputs(step: Step, module: nn.Module | Tensor | None, inputs: list[Tensor], filtered: Tensor) -> Tensor:
    """Return the constants that a step gives if its scale, or its filter, is 0.

    A depthwise convolution and its batch norm give what their input, a constant too, becomes.
    filtered: bool [values], the outputs of depthwise convolutions.
    """
    if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return pass_on(module, inputs)
    shift = torch.zeros(len(step.outputs), dtype=torch.float64)
    bias = shift if module.bias is None else module.bias.double().cpu()
    if isinstance(module, nn.BatchNorm2d):
        return torch.where(filtered[step.inputs[0]], normalised(module, inputs[0]), bias)
    if is_depthwise(module):
        shift = constant_shift(module, inputs[0], inputs[0].isfinite())
    return bias + shift


def _fold_into(network: Network, step: Step, conv: nn.Conv2d, inputs: Tensor) -> None:
    shift = constant_shift(conv, inputs, inputs.isfinite())
    block = network.get_submodule(step.module.rpartition(".")[0])
    if isinstance(block, Conv) and block.bn is not None:
        block.bn.running_mean.sub_(shift.to(conv.weight.device, conv.weight.dtype))
    else:
        add_to_bias(conv, shift)
