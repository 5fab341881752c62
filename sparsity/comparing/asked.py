"""The settings of a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity.pruning.budgets import WEIGHTS

Command = tuple[str, ...]
"""A command of this tool and its flags: ("val", "--weights", "best.pt")."""
DEFAULT_ENGINES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Asked:
    """The settings that all techniques share.

    weights, data, calib: as in the flags of the commands. engines: each runs the files that it can read.
    fused: whether the checkpoint's batch norms are already folded. sparsity: the fraction of the weights that
    is pruned. criterion, scope, budget, depthwise: how they are pruned. percent: the share of the free
    channels that is cut. epochs: of each training; None: by its recipe.

    The others are flags that are passed on. training: to each finetune. slimming: to slim. sparse_training:
    to a finetune before slim; without them, slim cuts the checkpoint itself. shared: to every command, such
    as --imgsz. making: to the commands that make a file. validating: to those that validate it, such as
    --device.
    """

    weights: str
    data: str
    engines: tuple[str, ...] = DEFAULT_ENGINES
    fused: bool = False
    calib: str = ""
    sparsity: float = 0.5
    percent: float = 0.5
    epochs: int | None = None
    criterion: str = "l1"
    scope: str = "layer"
    budget: str = WEIGHTS
    depthwise: bool = False
    training: Command = ()
    slimming: Command = ()
    sparse_training: Command = ()
    shared: Command = ()
    making: Command = ()
    validating: Command = ()
