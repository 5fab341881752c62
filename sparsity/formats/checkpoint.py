"""The content of a detector's file, and the network built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.formats.architecture import UnreadableError
from sparsity.yolo.network import Network, build, drop_neutral_norms
from sparsity.yolo.registry import HEADS
from sparsity.yolo.spec import Architecture
from sparsity.yolo.trial import misfit


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file of a detector.

    weights: tensors by their published names (model.0.conv.weight, ...). Floating-point tensors are float32.
    names: the class names in order. trained_with: see Network.
    """

    path: Path
    architecture: Architecture
    weights: dict[str, Tensor] = field(repr=False)
    names: tuple[str, ...]
    trained_with: Mapping[str, float] = field(default_factory=dict)


def build_network(checkpoint: Checkpoint) -> Network:
    """Build the network, in evaluation mode.

    Raises InputError if weights and modules do not fit, if no image can run through the modules, or if that
    would take far longer than any published network takes. No network is returned that cannot run.
    """
    try:
        network = build(checkpoint.architecture, checkpoint.names, checkpoint.weights)
    except Exception as error:
        # Modules with children of the wrong kind can raise any exception.
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{checkpoint.path}: its weights do not fit its modules: {reason}") from error
    if problem := misfit(checkpoint.architecture, checkpoint.names):
        raise InputError(f"{checkpoint.path}: its modules do not fit together: {problem}")
    network.trained_with = dict(checkpoint.trained_with)
    return drop_neutral_norms(network)


def checked_head(architecture: Architecture) -> int:
    """Return the head's number of classes. Raises UnreadableError unless maps, strides and widths agree."""
    head = architecture[-1].module
    if problem := HEADS[head.kind].misfit(head):
        raise UnreadableError(f"its head model.{len(architecture) - 1} {problem}")
    return head.attributes["nc"]
