"""The architecture of a network as its modules are now."""

from __future__ import annotations

from torch import nn

from sparsity.yolo.attention import SelfAttention
from sparsity.yolo.network import Network
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec

_SHAPES = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm2d: ("num_features",),
    nn.Linear: ("in_features", "out_features"),
    SelfAttention: ("num_heads",),
}
"""Class of a module -> the attributes that its weights determine."""


def current_architecture(network: Network) -> Architecture:
    """Return the architecture as the modules are now: fused Convs without batch norm, current channels."""
    return tuple(
        Layer(_current(layer.module, module), layer.sources)
        for layer, module in zip(network.architecture, network.model, strict=True)
    )


def _current(spec: ModuleSpec, module: nn.Module) -> ModuleSpec:
    attributes = dict(spec.attributes)
    for kind, names in _SHAPES.items():
        if isinstance(module, kind):
            attributes |= {name: getattr(module, name) for name in names}
    if isinstance(module, nn.Conv2d):
        attributes["bias"] = module.bias is not None
    children = {
        name: _current(child, module.get_submodule(name))
        for name, child in spec.children.items()
        if getattr(module, name, module) is not None
    }
    return ModuleSpec(spec.kind, attributes, children)
