"""The base of engines that run ONNX graphs by another package."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from sparsity.base.optional import optional_module
from sparsity.engines.engine import Engine, Runner
from sparsity.engines.graphs import Decode, Graphs


class GraphEngine(Engine):
    """Runs networks and ONNX files by an optional package, whose module has the package's name."""

    needs_graph = True
    compiles = True

    def __init__(self, graphs: Graphs | None = None) -> None:
        """graphs: to share with other engines. Raises InputError where a package is missing."""
        self.module = optional_module(self.package, f"`engine` {self.name}")
        self._graphs = graphs or Graphs()

    @abstractmethod
    def make_runner(self, graph: bytes, decode: Decode) -> Runner:
        """Return a runner of a serialised graph. decode: the boxes in the graph's outputs."""

    def prepare(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> Runner:
        """Return a runner of a copy of the network. Raises InputError for any other device or precision."""
        self.check_device(device, dtype)
        return self.make_runner(*self._graphs.get(network))
