"""Architecture data -> a network that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparsity.yolo.blocks import Conv
from sparsity.yolo.families import family_of
from sparsity.yolo.head import Candidates, Head
from sparsity.yolo.registry import build_module
from sparsity.yolo.spec import Architecture, kinds_of

SMALLEST_SCALE = 1e-9
"""A smaller scale of a batch norm counts as 0."""
DEPTH = 64
"""How many times coarser than the head's coarsest map a layer's map can be."""


class Network(nn.Module):
    """A detector: images in, raw maps out, boxes by candidates().

    Parameters are named as in the published checkpoints: model.LAYER.NAME.
    trained_with: what the checkpoint tells of its own training (see formats.training_arguments); else empty.
    """

    def __init__(self, architecture: Architecture, names: Sequence[str]) -> None:
        super().__init__()
        self.architecture = architecture
        self.names = tuple(names)
        self.trained_with: Mapping[str, float] = {}
        self.model = nn.ModuleList(build_module(layer.module) for layer in architecture)
        self._last_use = _last_use(architecture)

    @property
    def head(self) -> Head:
        """The last layer."""
        return self.model[-1]

    @property
    def dialect(self) -> str:
        """The dialect of the head: a key of families.DIALECTS."""
        return self.head.dialect

    @property
    def family(self) -> str:
        """The name of the family, as users write it: YOLOv5, YOLO11."""
        return family_of(self.dialect, kinds_of(self.architecture))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each raw map."""
        return self.head.strides

    @cached_property
    def largest_stride(self) -> int:
        """Pixels per cell of the coarsest map of any module. Sides of images must be multiples of it.

        It is larger than max(strides) where the backbone goes deeper than the head's maps.
        """
        return max(*self.strides, _coarsest(self.architecture, self.names, DEPTH * max(self.strides)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [batch, 3, height, width], RGB in 0 to 1, sides multiples of largest_stride -> raw maps.

        In training mode, a head of several branches gives the raw maps of all that it holds.
        """
        return self.head(self._before_head(images))

    def every_output(self, images: Tensor) -> list[Tensor]:
        """Images, as forward takes them -> the raw maps of every branch of the head, one after the other."""
        return self.head.every(self._before_head(images))

    def _before_head(self, images: Tensor) -> list[Tensor] | Tensor:
        """Images -> what the last layer reads."""
        outputs: dict[int, Tensor] = {-1: images}
        last = len(self.model) - 1
        for index in range(last):
            outputs[index] = self.model[index](self._inputs(index, outputs))
            for done in self._last_use.get(index, ()):
                del outputs[done]
        return self._inputs(last, outputs)

    def _inputs(self, index: int, outputs: Mapping[int, Tensor]) -> list[Tensor] | Tensor:
        """Return what a layer reads of the outputs of the layers before it."""
        sources = self.architecture[index].sources
        inputs = [outputs[_absolute(source, index)] for source in sources]
        return inputs if _takes_list(sources, self.model[index]) else inputs[0]

    def candidates(self, raw: Sequence[Tensor], conf_thres: float) -> Candidates:
        """Raw maps -> the boxes above conf_thres, in pixels of the network's input."""
        return self.head.candidates(raw, conf_thres)

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps -> the weights of their squared errors, same shapes. The head defines them.

        The raw maps can be those of every branch, as every_output gives them.
        """
        return self.head.importance(raw)


def build(
    architecture: Architecture, names: Sequence[str], weights: Mapping[str, Tensor] | None = None
) -> Network:
    """Build the network, in evaluation mode, with these weights (not copied).

    Without weights, the parameters are PyTorch's random ones. Raises RuntimeError if a weight is missing, is
    left over or has another shape.
    """
    if weights is None:
        return Network(architecture, names).eval()
    with torch.device("meta"):
        network = Network(architecture, names)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def fuse(network: Network) -> Network:
    """Fold each Conv's batch norm into its convolution, in place. Returns the network."""
    for module in network.modules():
        if isinstance(module, Conv) and module.bn is not None:
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = None
    return network


def has_norms(network: nn.Module) -> bool:
    """Whether the network has batch norms. A fused network has none."""
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def drop_neutral_norms(network: Network) -> Network:
    """Replace neutral batch norms by a bias of their convolution, in place. Returns the network.

    A neutral batch norm only adds a bias: it scales by exactly 1 and its mean is 0. Fused networks are
    written with such batch norms to files whose readers expect a batch norm in every Conv.
    """
    for module in network.modules():
        if isinstance(module, Conv) and module.conv.bias is None and _only_adds(module.bn):
            module.conv.bias, module.bn = module.bn.bias, None
    return network


def _only_adds(norm: nn.BatchNorm2d | None) -> bool:
    if norm is None or norm.eps != 0:
        return False
    scaled = (norm.weight != 1).any() or (norm.running_var != 1).any()
    return not scaled and not bool(norm.running_mean.any())


def take_over(network: Network, fused: Network) -> Network:
    """Copy the weights of a fused network into one with batch norms, in place. Returns the latter.

    Both have the same architecture. The scales and statistics of the batch norms stay. The weights are
    divided by the factors that fuse multiplies them by, and the shifts are computed from the biases. In
    evaluation mode, the network then gives the same outputs as the fused one.
    """
    theirs = dict(fused.named_modules())
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Conv) and module.bn is not None:
                _take_over_conv(module, theirs[name].conv)
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                module.weight.copy_(theirs[name].weight)
                module.bias.copy_(theirs[name].bias)
    return network


def _take_over_conv(module: Conv, fused: nn.Conv2d) -> None:
    norm = module.bn
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    # The scale of a channel that the norm switches off has no inverse: the weights become 0.
    inverse = torch.where(scale.abs() > SMALLEST_SCALE, 1 / scale, torch.zeros_like(scale))
    module.conv.weight.copy_(fused.weight * inverse[:, None, None, None])
    norm.bias.copy_(fused.bias + scale * norm.running_mean)


def _coarsest(architecture: Architecture, names: Sequence[str], side: int) -> int:
    """Return the pixels per cell of the coarsest map, for images of side x side. Only shapes are computed.

    Maps within a layer count, too.
    """
    with torch.device("meta"):
        double = Network(architecture, names).eval()
        images = torch.empty(1, 3, side, side)
    sides = [side]

    def note(_module: nn.Module, _inputs: object, result: object) -> None:
        if isinstance(result, Tensor) and result.dim() == 4:
            sides.extend(result.shape[2:])

    for module in double.model[:-1].modules():
        module.register_forward_hook(note)
    double(images)
    return side // min(sides)


def _absolute(source: int, index: int) -> int:
    return index + source if source < 0 else source


def _takes_list(sources: tuple[int, ...], module: nn.Module) -> bool:
    return len(sources) > 1 or isinstance(module, Head)


def _last_use(architecture: Architecture) -> dict[int, list[int]]:
    """Index of a layer -> the outputs that no later layer needs, which can be freed after it."""
    last: dict[int, int] = {}
    for index, layer in enumerate(architecture):
        for source in layer.sources:
            last[_absolute(source, index)] = index
    freed: dict[int, list[int]] = {}
    for output, index in last.items():
        freed.setdefault(index, []).append(output)
    return freed
