"""One forward pass without numbers: whether an architecture's modules fit together, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity.yolo.network import Network
from sparsity.yolo.spec import Architecture

CELLS = 64
"""Cells along a side of the coarsest raw map. The backbone can go deeper by that factor."""
MOST_WORK = 5_000_000
"""The most multiplications for a pixel of the image. yolov5x has 0.25 million."""
MOST_VALUES = 1024
"""The most values of one map for a pixel of the image. yolov5x has 20."""


@dataclass
class _Trial:
    """What is known while a forward pass runs. pixels: those of the image."""

    pixels: int
    layer: int = 0
    work: float = 0.0

    def count(self, module: nn.Module, _inputs: object, output: object) -> None:
        """Add the work of a module, and raise ValueError if the network is too expensive."""
        values = output.numel() if isinstance(output, Tensor) else 0
        self.work += values * _operations(module)
        if values > MOST_VALUES * self.pixels or self.work > MOST_WORK * self.pixels:
            raise ValueError(
                f"it needs over {MOST_WORK} multiplications, or over {MOST_VALUES} values, for each pixel"
            )


def misfit(architecture: Architecture, names: Sequence[str]) -> str:
    """Return why no image can run through an architecture, "" if one can. Only shapes are computed.

    names: the class names. The modules' attributes are those that attributes.misfit accepts.
    """
    side = CELLS * max(architecture[-1].module.attributes["strides"])
    trial = _Trial(side * side)
    try:
        with torch.device("meta"), torch.inference_mode():
            network = Network(architecture, names).eval()
            _watch(network, trial)
            raw = network(torch.empty(1, 3, side, side))
    except Exception as error:
        # Modules that do not fit together can raise any exception.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return f"layer {trial.layer} cannot run after the layers before it: {reason}"
    # A padding that is not the usual one can add a cell or two.
    cells = [tuple(x.shape[2:]) for x in raw]
    if [tuple(round(side / max(one, 1)) for one in pair) for pair in cells] != [
        (s, s) for s in network.strides
    ]:
        found = ", ".join(f"{side / max(height, 1):g}" for height, _ in cells)
        return f"its raw maps have strides {found}; its head names {', '.join(map(str, network.strides))}"
    return ""


def _watch(network: Network, trial: _Trial) -> None:
    """Let trial know which layer runs, and what each module without submodules gives."""

    def enter(index: int) -> None:
        trial.layer = index

    for index, layer in enumerate(network.model):
        layer.register_forward_pre_hook(lambda _module, _inputs, index=index: enter(index))
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(trial.count)


def _operations(module: nn.Module) -> int:
    """Return the multiplications, or comparisons, for one value of a module's output."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        return module.weight[0].numel()
    if isinstance(module, nn.MaxPool2d):
        size = module.kernel_size
        return math.prod(size) if isinstance(size, tuple) else size * size
    return 1
