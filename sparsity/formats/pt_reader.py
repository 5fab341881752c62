"""A published .pt -> architecture, weights and names. Nothing in the file is run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.checkpoint import Checkpoint, checked_head
from sparsity.formats.module_tree import TreeReader
from sparsity.formats.unpickle import Record, StoredFile, UnknownGlobalError, read_file
from sparsity.yolo.families import CLASS_NAMES, OTHER_TASKS


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read a checkpoint of a published family: `ema` if it has one, else `model`.

    Raises InputError if the file is missing, damaged, not a detection checkpoint, or names anything except
    the classes of one.
    """
    path = Path(path)
    try:
        stored = read_file(path, CLASS_NAMES)
    except UnknownGlobalError as error:
        raise InputError(f"{path}: {_refusal(error.name)}") from None
    model = _model_record(stored)
    try:
        tree = TreeReader(stored)
        architecture = tree.read_layers(model)
        names = _names(model, checked_head(architecture))
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    weights = stored.read_tensors(tree.tensors)
    floats = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    return Checkpoint(path, architecture, floats, names)


def _refusal(name: str) -> str:
    if name in OTHER_TASKS:
        expected = "a YOLOv5 detection checkpoint (v5 to v7) or a YOLOv8 one is expected"
        return f"{OTHER_TASKS[name]} ({name}); {expected}"
    name = name if len(name) < 200 else name[:200] + "..."
    return (
        f"refused: it names {name}, which no YOLOv5 or YOLOv8 detection checkpoint needs; nothing in the "
        "file was run. If you trust it, save its weights again with YOLOv5's or YOLOv8's own classes"
    )


def _model_record(stored: StoredFile) -> Record:
    root = stored.root
    if isinstance(root, Record):
        root = {"model": root}
    if not isinstance(root, dict):
        raise InputError(f"{stored.path}: not a YOLOv5 or YOLOv8 checkpoint: it holds no dict at its root")
    if root.get("format") == "sparsity":
        raise InputError(
            f"{stored.path}: a .pt form of an early finetune.py, which is no longer read; train again, or "
            "convert it with the version that wrote it"
        )
    model = root.get("ema") or root.get("model")
    if not isinstance(model, Record) or model.class_name != "Model":
        keys = ", ".join(str(key) for key in list(root)[:8]) or "nothing"
        raise InputError(
            f"{stored.path}: no YOLOv5 or YOLOv8 detection model under 'ema' or 'model' (it holds: {keys}); "
            "a bare state dict is not enough: give the checkpoint that training wrote"
        )
    return model


def _names(model: Record, nc: int) -> tuple[str, ...]:
    names = model.state.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if isinstance(names, list):
        names = [str(name) if isinstance(name, int | float) else name for name in names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError("its model has no class names (a list, or a dict from 0 on)")
    if len(names) != nc:
        raise UnreadableError(f"its model has {len(names)} class names, but its head has {nc} classes")
    return tuple(names)
