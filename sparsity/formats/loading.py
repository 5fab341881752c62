"""Loads a saved network of any form that can be pruned and trained."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sparsity.base.arguments import require_location
from sparsity.base.errors import InputError
from sparsity.formats.table import FORMS
from sparsity.yolo.network import Network, fuse


def load(weights: str | PathLike[str], *, fused: bool = True) -> Network:
    """Load a detection checkpoint, or our .safetensors, as a float32 network.

    Checkpoints of YOLOv5 (v5 to v7), YOLOv8, YOLO11, YOLO12 and YOLO26 are read. A YOLO26 keeps both branches
    of its head, as far as the file has them; of two, the one-to-many branch runs (see choose_head).
    The network is in evaluation mode. From a checkpoint, `ema` is loaded if it has one, else `model`. With
    fused, each batch norm is folded into its convolution, as pruning expects. Raises InputError if the file
    is missing, damaged, not a detection checkpoint, or names anything except the classes of one.
    """
    require_location(weights, "weights")
    path = Path(weights)
    # A checkpoint can have any other suffix. Its reader refuses other files, and says what they are.
    form = FORMS[path.suffix if path.suffix in FORMS else ".pt"]
    if not form.trainable:
        raise InputError(
            f"{path}: an exported network, which val_sparse.py validates as it is; give the .pt or "
            ".safetensors that it was made from"
        )
    network = form.read(path)
    return fuse(network) if fused else network
