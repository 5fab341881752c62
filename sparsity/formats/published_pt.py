"""Common parts of the families' .pt forms: modules under their published names, weights in half precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.formats.half import to_half
from sparsity.formats.stand_ins import StandIn, stand_in
from sparsity.yolo import torch_kinds
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network
from sparsity.yolo.registry import HEADS, KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

ClassName: TypeAlias = tuple[str, str]
"""Module and name of a class."""
Parts: TypeAlias = dict[str, Any]
"""A module's attributes and submodules, by name."""


class Publisher:
    """Makes stand-ins for modules, under the class names of one family.

    names: kind -> the class under which it is written.
    made: kind -> a function that makes its stand-in from the module's parts, for kinds whose published class
    has other parts.
    """

    def __init__(
        self, names: Mapping[str, ClassName], made: Mapping[str, Callable[[Parts], nn.Module]]
    ) -> None:
        self.names, self.made = names, made

    def model(self, name: ClassName, network: Network) -> StandIn:
        """Return the whole network under this name, with its weights and what both families' models store."""
        architecture = current_architecture(network)
        with torch.device("meta"):
            layers = nn.Sequential(*(self._layer(layer, i) for i, layer in enumerate(architecture)))
        named = dict(enumerate(network.names))
        whole = stand_in(*name, model=layers, save=_kept(architecture), names=named)
        whole.nc, whole.stride = layers[-1].nc, half_strides(network.strides)
        weights = _with_neutral_norms(_half_weights(network), whole)
        whole.load_state_dict(weights, strict=True, assign=True)
        return whole.requires_grad_(False).eval()

    def _layer(self, layer: Layer, index: int) -> nn.Module:
        """Return one layer, with the attributes that are noted on it: i, f, type and np (its parameters)."""
        module = self._module(layer.module)
        as_list = len(layer.sources) > 1 or layer.module.kind in HEADS
        module.i, module.f = index, list(layer.sources) if as_list else layer.sources[0]
        module.type = f"{type(module).__module__}.{type(module).__qualname__}"
        module.np = sum(parameter.numel() for parameter in module.parameters())
        return module

    def _module(self, spec: ModuleSpec) -> nn.Module:
        children = {name: self._module(child) for name, child in spec.children.items()}
        if spec.kind not in self.names:
            if spec.kind not in torch_kinds.KINDS:
                raise InputError(f"a .pt cannot hold {spec.kind} yet; save the network as .safetensors")
            return KINDS[spec.kind].make(**spec.attributes, **children)
        parts: Parts = dict(spec.attributes) | children
        if spec.kind in self.made:
            return self.made[spec.kind](parts)
        return stand_in(*self.names[spec.kind], **_as_published(parts) if spec.kind == "Conv" else parts)


def half_strides(strides: tuple[int, ...]) -> Tensor:
    """Return the strides as checkpoints store them."""
    return torch.tensor(strides, dtype=torch.float16, device="cpu")


def _as_published(conv: Parts) -> Parts:
    """Return a Conv's modules. If it has no batch norm, one takes the place of the bias."""
    if hasattr(conv["act"], "inplace"):
        conv["act"].inplace = True
    if "bn" in conv:
        return conv
    conv["conv"].bias = None
    norm = nn.BatchNorm2d(conv["conv"].out_channels, eps=0.0, momentum=0.03)
    return {"conv": conv["conv"], "bn": norm, "act": conv["act"]}


def _half_weights(network: Network) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in network.state_dict().items():
        own = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        weights[name] = to_half(own, name) if own.is_floating_point() else own
    return weights


def _with_neutral_norms(weights: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """Return the weights, and those of the batch norms that only whole has.

    The biases move into these batch norms.
    """
    weights = dict(weights)
    for name, norm in whole.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and f"{name}.weight" not in weights:
            ones, zeros = (fill(norm.num_features, dtype=torch.float16) for fill in (torch.ones, torch.zeros))
            bias = weights.pop(f"{name.removesuffix('bn')}conv.bias", zeros.clone())
            neutral = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": ones.clone()}
            neutral["num_batches_tracked"] = torch.tensor(0)
            weights |= {f"{name}.{key}": tensor for key, tensor in neutral.items()}
    return weights


def _kept(architecture: Architecture) -> list[int]:
    """Return the layers whose output is used by another layer than the next one.

    Raises InputError if a layer after the first takes the image itself.
    """
    kept = set()
    for index, layer in enumerate(architecture):
        sources = {s if s >= 0 else index + s for s in layer.sources if s != -1}
        if -1 in sources:
            raise InputError(
                f"model.{index} takes the image itself, which a .pt cannot express; save it as .safetensors"
            )
        kept |= sources
    return sorted(kept)
