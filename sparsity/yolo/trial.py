"""One forward pass without numbers: whether an architecture's modules fit together, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparsity.yolo.attention import SelfAttention
from sparsity.yolo.network import Network
from sparsity.yolo.spec import Architecture

CELLS = 64
"""Cells along a side of the coarsest raw map. The backbone can go deeper by that factor."""
MOST_WORK = 5_000_000
"""The most multiplications for a pixel of the image. yolov5x has 0.25 million."""
MOST_VALUES = 1024
"""The most values of one map for a pixel of the image. yolov5x has 20."""


class _Trial:
    """What is known while a forward pass runs. pixels: those of the image."""

    def __init__(self, network: Network, pixels: int) -> None:
        self.pixels, self.layer, self.work = pixels, 0, 0.0
        for index, layer in enumerate(network.model):
            layer.register_forward_pre_hook(lambda _module, _inputs, index=index: self._enter(index))
        for layer in network.model[:-1]:
            layer.register_forward_hook(self._check)
        for module in network.modules():
            if not list(module.children()):
                module.register_forward_hook(self._count)
            if isinstance(module, SelfAttention):
                module.register_forward_hook(self._count_products)

    def _enter(self, index: int) -> None:
        self.layer = index

    def _check(self, _layer: nn.Module, _inputs: object, output: object) -> None:
        if not _is_map(output):
            raise ValueError("it gives something else than one map of [batch, channels, height, width]")

    def _count(self, module: nn.Module, _inputs: object, output: object) -> None:
        """Add the work of a module, and raise ValueError if the network is too expensive."""
        values = output.numel() if isinstance(output, Tensor) else 0
        self._add(values, values * _operations(module))

    def _count_products(self, module: SelfAttention, inputs: tuple[Tensor], _output: object) -> None:
        """Add the work of an attention's products: of queries and keys, and of their weights and values."""
        products = module.products(inputs[0].shape[2] * inputs[0].shape[3])
        self._add(products, module.multiply_adds(inputs[0]))

    def _add(self, values: int, work: int) -> None:
        self.work += work
        if values > MOST_VALUES * self.pixels or self.work > MOST_WORK * self.pixels:
            raise ValueError(
                f"it needs over {MOST_WORK} multiplications, or over {MOST_VALUES} values, for each pixel"
            )


def misfit(architecture: Architecture, names: Sequence[str]) -> str:
    """Return why no image can run through an architecture, "" if one can. Only shapes are computed.

    names: the class names. The modules' attributes are those that attributes.misfit accepts.
    """
    side = CELLS * max(architecture[-1].module.attributes["strides"])
    raw, problem = _run(architecture, names, side)
    if problem:
        return problem
    strides = architecture[-1].module.attributes["strides"]
    # A padding that is not the usual one can add a cell or two.
    cells = [tuple(x.shape[2:]) for x in raw]
    if [tuple(round(side / one) for one in pair) for pair in cells] != [(s, s) for s in strides]:
        found = ", ".join(f"{side / height:g}" for height, _ in cells)
        return f"its raw maps have strides {found}; its head names {', '.join(map(str, strides))}"
    with torch.device("meta"):
        smallest = Network(architecture, names).largest_stride
    _, problem = _run(architecture, names, smallest)
    return f"{problem} (for an image of {smallest} x {smallest})" if problem else ""


def _run(architecture: Architecture, names: Sequence[str], side: int) -> tuple[list[Tensor], str]:
    """Return the raw maps of an image of side x side, on the meta device, and why there are none."""
    trial = None
    try:
        with torch.device("meta"), torch.inference_mode():
            network = Network(architecture, names).eval()
            trial = _Trial(network, side * side)
            raw = network(torch.empty(1, 3, side, side))
        if not all(map(_is_map, raw)):
            raise ValueError("it gives something else than maps of [batch, channels, height, width]")
    except Exception as error:
        # Modules that do not fit together can raise any exception.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return [], f"layer {trial.layer if trial else 0} cannot run after the layers before it: {reason}"
    return raw, ""


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4 and len(value) == 1 and value.numel() > 0


def _operations(module: nn.Module) -> int:
    """Return the multiplications, or comparisons, for one value of a module's output."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        return module.weight[0].numel()
    if isinstance(module, nn.MaxPool2d):
        size = module.kernel_size
        return math.prod(size) if isinstance(size, tuple) else size * size
    return 1
