"""The layers that are pruned: every Conv2d of a network, by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from sparsity.base.arguments import require_network
from sparsity.base.errors import InputError


def convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Return every Conv2d of a network with its name, in the network's order.

    Raises InputError for anything but a torch.nn.Module.
    """
    require_network(network, nn.Module)
    return ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a Conv2d is depthwise: each filter reads one of several input channels."""
    return conv.groups == conv.in_channels > 1


def depthwise_layers(network: nn.Module) -> list[str]:
    """Return the names of the depthwise Conv2d, in the network's order."""
    return [name for name, conv in convolutions(network) if is_depthwise(conv)]


def require_convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return every Conv2d by its name, in the network's order. Raises InputError where there is none."""
    convs = dict(convolutions(network))
    if not convs:
        raise InputError(f"{type(network).__name__} has no Conv2d to prune")
    return convs


def every_output(network: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return what runs all layers of a network: its method every_output, or the network if it has none.

    A network has such a method where a call runs one of several branches only.
    """
    return getattr(network, "every_output", network)
