"""A published .pt -> architecture, weights and names. Nothing in the file is run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.checkpoint import Checkpoint, checked_head
from sparsity.formats.module_tree import TreeReader, refusal
from sparsity.formats.torch_file import StoredFile, read_file
from sparsity.formats.training_arguments import read_arguments
from sparsity.formats.unpickle import Record
from sparsity.yolo.families import CLASS_NAMES, family_names


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read a checkpoint of a published family: `ema` if that is a network, else `model`.

    Of what training keeps beside the network, only a few numbers of its settings are read (see
    training_arguments), whatever the classes of the rest. Weights with masks of
    torch.nn.utils.prune are multiplied with them. Raises InputError if the file is missing, damaged, not a
    detection checkpoint, or if its network has a module of any class except those of one.
    """
    path = Path(path)
    stored = read_file(path, CLASS_NAMES)
    model = _model_record(stored)
    try:
        tree = TreeReader(stored)
        architecture = tree.read_layers(model)
        names = _names(model, checked_head(architecture))
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    weights = stored.read_tensors(tree.tensors)
    for name, tensor in weights.items():
        if tensor.is_complex():
            raise InputError(
                f"{path}: {name} is of {tensor.dtype}; a real number is expected for each weight"
            )
    floats = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    for name, mask in stored.read_tensors(tree.masks).items():
        if mask.shape != floats[name].shape:
            raise InputError(f"{path}: {name} is of another shape than its mask")
        floats[name] = floats[name] * mask.float()
    return Checkpoint(path, architecture, floats, names, _trained_with(stored, model))


def _model_record(stored: StoredFile) -> Record:
    root = stored.root
    if _is_record(root):
        root = {"model": root}
    if not isinstance(root, dict):
        raise InputError(f"{stored.path}: not a checkpoint of {family_names()}: no dict at its root")
    if root.get("format") == "sparsity":
        raise InputError(
            f"{stored.path}: a .pt form of an early finetune.py, which is no longer read; train again, or "
            "convert it with the version that wrote it"
        )
    if root.get("modelopt") is not None:
        raise InputError(
            f"{stored.path}: holds the state of quantisation-aware training (modelopt), so its weights are "
            "fake-quantised; give a checkpoint that was trained without quantisation"
        )
    candidates = [root.get(key) for key in ("ema", "model")]
    models = [one for one in candidates if isinstance(one, Record) and one.class_name == "Model"]
    others = [one.class_name for one in candidates if _is_record(one) and "." in one.class_name]
    if not models and others:
        raise InputError(f"{stored.path}: {refusal(others[0], stored)}")
    if not models:
        keys = ", ".join(str(key) for key in list(root)[:8]) or "nothing"
        raise InputError(
            f"{stored.path}: no detection model of {family_names()} under 'ema' or 'model' (it holds: "
            f"{keys}); a bare state dict is not enough: give the checkpoint that training wrote"
        )
    return models[0]


def _trained_with(stored: StoredFile, model: Record) -> dict[str, float]:
    root = stored.root if isinstance(stored.root, dict) else {}
    return read_arguments(root.get("train_args"), model.state.get("hyp"))


def _is_record(value: object) -> bool:
    """Whether value is a record, or the class of one."""
    return isinstance(value, Record) or (isinstance(value, type) and issubclass(value, Record))


def _names(model: Record, nc: int) -> tuple[str, ...]:
    """Return the class names in order.

    A dict has a name for each index. YOLOv5 accepts one with gaps if it has nc names: an index without a name
    gets "class" and its number, and a name whose index the head does not have is dropped.
    """
    names = model.state.get("names")
    if isinstance(names, dict) and all(type(index) is int for index in names):
        gaps = len(names) == nc and any(index >= nc for index in names)
        order = range(nc if gaps else len(names))
        names = [names.get(i, f"class{i}" if gaps else None) for i in order]
    if isinstance(names, list):
        names = [str(name) if isinstance(name, int | float) else name for name in names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError("its model has no class names (a list, or a dict from 0 on)")
    if len(names) != nc:
        raise UnreadableError(f"its model has {len(names)} class names, but its head has {nc} classes")
    return tuple(names)
