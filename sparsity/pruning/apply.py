"""Masks, applied permanently with torch.nn.utils.prune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

Module = TypeVar("Module", bound=nn.Module)


def apply_masks(network: Module, masks: Mapping[str, Tensor]) -> Module:
    """Set the weights where a mask is False to zero, permanently and in place. Return the network.

    masks: bool [out, in / groups, height, width] by the name of the Conv2d.
    """
    for name, mask in masks.items():
        conv = network.get_submodule(name)
        torch_prune.custom_from_mask(conv, "weight", mask.to(conv.weight.device))
        torch_prune.remove(conv, "weight")
    return network
