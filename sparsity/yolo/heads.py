"""Chooses which branch of a head runs. The head of a YOLO26 has two: one-to-many and one-to-one."""

from __future__ import annotations

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError
from sparsity.yolo.network import Network
from sparsity.yolo.registry import KINDS
from sparsity.yolo.spec import Layer, ModuleSpec


def held_heads(network: Network) -> tuple[str, ...]:
    """Return the branches that the network's head holds: one2many, one2one, or () if it has none."""
    return network.head.held(list(network.architecture[-1].module.children))


def choose_head(network: Network, head: str) -> Network:
    """Run this branch of the head from now on, in place. Other branches stay. Returns the network.

    head: one2many or one2one. Raises InputError for another name, and if the network does not hold it.
    """
    require_network(network, Network)
    return _replace(network, head, keep=held_heads(network))


def keep_head(network: Network, head: str) -> Network:
    """Run this branch of the head from now on, and drop the other one, in place. Returns the network.

    head: one2many or one2one. Raises InputError as choose_head does.
    """
    return _replace(network, head, keep=(head,))


def _replace(network: Network, head: str, *, keep: tuple[str, ...]) -> Network:
    _check(network, head)
    old, layer = network.head, network.architecture[-1]
    dropped = {name for held in held_heads(network) if held not in keep for name in old.children_of(held)}
    children = {name: spec for name, spec in layer.module.children.items() if name not in dropped}
    spec = ModuleSpec(old.kinds[head], layer.module.attributes, children)
    modules = {name: getattr(old, name) for name in children}
    network.model[-1] = KINDS[spec.kind].make(**spec.attributes, **modules).train(old.training)
    network.architecture = (*network.architecture[:-1], Layer(spec, layer.sources))
    return network


def _check(network: Network, head: str) -> None:
    require_network(network, Network)
    held = held_heads(network)
    if not held:
        raise InputError(f"`head` is {head!r}, but this network has one head; only a YOLO26 has two")
    if head not in network.head.kinds:
        raise InputError(f"`head` is {head!r}; one of {', '.join(network.head.kinds)} is expected")
    if head not in held:
        raise InputError(f"`head` is {head!r}, but this network holds {', '.join(held)} only")
