"""The metadata of a detector's ONNX file, in our own files and in the families' own exports."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsity.base.errors import InputError
from sparsity.yolo.attributes import shown
from sparsity.yolo.families import DIALECTS
from sparsity.yolo.network import Network

LIKELY_MOST_CLASSES = 100_000
LONGEST_METADATA, LONGEST_STRIDE = 2**20, 100
"""Longer texts in the metadata are not parsed, in characters."""
NAMES, STRIDE, DIALECT = "names", "stride", "dialect"
"""Keys of the metadata. Only our own files name their dialect."""


@dataclass(frozen=True)
class Metadata:
    """What the metadata say.

    names: the class names. stride: the largest one. dialect: a key of families.DIALECTS, "" in exports of
    others. asked_for_nms: whether NMS is part of the graph. end_to_end: whether its head needs none, and its
    outputs are detections. head: the class of the head in the ultralytics package, "" where none is named.
    """

    names: tuple[str, ...]
    stride: int
    dialect: str
    asked_for_nms: bool
    end_to_end: bool
    head: str


def describe(network: Network) -> dict[str, str]:
    """Return the metadata of a file: names and stride as in the families' own exports, and the dialect."""
    names = repr(dict(enumerate(network.names)))
    return {STRIDE: str(network.largest_stride), NAMES: names, DIALECT: network.dialect}


def read_metadata(path: Path, model: Any) -> Metadata:
    """Return what the metadata of an onnx.ModelProto say. Raises InputError without names or stride."""
    stored = {entry.key: entry.value for entry in model.metadata_props}
    arguments = _literal(stored.get("args", "{}"))
    return Metadata(
        names=_names(path, stored.get(NAMES)),
        stride=_stride(path, stored.get(STRIDE)),
        dialect=_dialect(path, stored.get(DIALECT, "")),
        asked_for_nms=isinstance(arguments, dict) and arguments.get("nms") is True,
        end_to_end=stored.get("end2end") == "True",
        head=stored.get("head", ""),
    )


def _dialect(path: Path, text: str) -> str:
    if text and text not in DIALECTS:
        raise InputError(
            f"{path}: its metadata `{DIALECT}` is {shown(text)}; update sparsity, or export it again"
        )
    return text


def _names(path: Path, text: str | None) -> tuple[str, ...]:
    if text is None:
        raise InputError(
            f"{path}: has no class names (metadata `names`); files of `save` and YOLOv5's export.py have them"
        )
    names = _literal(text)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or len(names) > LIKELY_MOST_CLASSES:
        names = {}
    if set(names) != set(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        names = {}
    if not names:
        raise InputError(f"{path}: its metadata `names` is not a dict of names from 0 on: {text[:80]!r}")
    return tuple(names[i] for i in range(len(names)))


def _literal(text: str) -> object:
    """Return the value of a Python literal. None if it is not one, or would take long to make."""
    try:
        tree = ast.parse(text.strip() if len(text) <= LONGEST_METADATA else "", mode="eval")
        # Keys of a dict can be chosen so that their hashes are equal, which takes numbers of over 60 bits.
        numbers = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        if any(isinstance(number, int) and number >= 2**60 for number in numbers):
            return None
        return ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _stride(path: Path, text: str | None) -> int:
    try:
        stride = int(json.loads(text or "")) if len(text or "") <= LONGEST_STRIDE else 0
    except (ValueError, TypeError, OverflowError, RecursionError):
        stride = 0
    if not 1 <= stride <= 1024:
        raise InputError(
            f"{path}: its metadata `stride` is {shown(text)}; the largest stride, such as 32, is expected"
        )
    return stride
