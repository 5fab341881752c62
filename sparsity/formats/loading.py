"""A saved network of any form that can be pruned and trained -> the network."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.formats.table import FORMS
from sparsity.yolo.network import Network, fuse


def load(weights: str | PathLike[str], *, fused: bool = True) -> Network:
    """Load a detection checkpoint of YOLOv5 (v5 to v7) or YOLOv8, or our .safetensors, as a float32 network.

    It is in evaluation mode. Of a checkpoint, `ema` is taken where there is one, else its `model`. With
    fused, each batch norm is folded into its convolution, as pruning expects. Raises InputError where the
    file is missing, damaged, no detection checkpoint, or names anything but the classes of one.
    """
    path = Path(weights)
    # A checkpoint under another name is still one; its reader says what it is where it isn't.
    form = FORMS[path.suffix if path.suffix in FORMS else ".pt"]
    if not form.trainable:
        raise InputError(
            f"{path}: an exported network: val_sparse.py validates it as it is; give the .pt or .safetensors "
            "it was made from"
        )
    network = form.read(path)
    return fuse(network) if fused else network
