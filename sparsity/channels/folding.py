"""What channels still give once their scales are 0, handed to the convolutions that read them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsity.channels.constants import add_to_bias, constant_shift, pass_on
from sparsity.channels.graph import Channels, Step
from sparsity.yolo.blocks import Conv
from sparsity.yolo.network import Network


@torch.no_grad()
def fold_constants(network: Network, channels: Channels, keep: Tensor) -> None:
    """Put what the channels that are not to be kept give into biases or running means, in place.

    Taken for the constant that it is with a scale of 0: its shift, through the activation and whatever
    adds to it. keep: bool [identities]. What reads it by a convolution without padding then gives the same
    when it is cut; with padding, all but the cells whose window reaches over the border do.
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
    """What a step gives where its scale, or its filter, is 0."""
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
