"""What a comparison is asked for."""

from __future__ import annotations

from dataclasses import dataclass

Command = tuple[str, ...]
"""A command of this tool and its flags: ("val", "--weights", "best.pt")."""
DEFAULT_ENGINES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Asked:
    """What all techniques share.

    weights, data, calib: as the scripts' flags. engines: that run what is made. fused: whether the
    checkpoint's batch norms are folded in already. sparsity: fraction pruned, by criterion and scope.
    percent: share of the free channels slimmed, with the flags slimming of slim.py, behind a training with
    the flags sparse_training, where there are any. epochs: of each training, with the flags training of
    finetune.py. shared: flags that every script is given, such as --imgsz; making: those of the commands
    that make a file, validating: those of the ones that validate it, such as --device.
    """

    weights: str
    data: str
    engines: tuple[str, ...] = DEFAULT_ENGINES
    fused: bool = False
    calib: str = ""
    sparsity: float = 0.5
    percent: float = 0.5
    epochs: int = 10
    criterion: str = "l1"
    scope: str = "layer"
    training: Command = ()
    slimming: Command = ()
    sparse_training: Command = ()
    shared: Command = ()
    making: Command = ()
    validating: Command = ()
