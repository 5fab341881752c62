"""COCO annotations: read from a file and checked against the images, or derived from labels."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparsity.base.errors import InputError


@dataclass(frozen=True)
class Labels:
    """The true boxes of one image: classes int64 [n]; boxes float32 [n, 4] cx, cy, w, h, normalised."""

    classes: np.ndarray
    boxes_cxcywhn: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def without_duplicates(self) -> Labels:
        """Return the labels with each pair of class and box once."""
        rows = np.column_stack((self.classes.astype(np.float32), self.boxes_cxcywhn))
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        return Labels(self.classes[first], self.boxes_cxcywhn[first])

    def as_one_class(self) -> Labels:
        """Return the labels with class 0 for all boxes."""
        return Labels(np.zeros_like(self.classes), self.boxes_cxcywhn)


NO_LABELS = Labels(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


@dataclass(frozen=True)
class Annotations:
    """A COCO annotation set.

    content: the file's dict (images, annotations, categories). All ids are whole numbers.
    path: where it was read from, None where it was derived.
    without_box: indices of annotations in the file that have no box. They are not in content.
    """

    content: dict[str, Any] = field(repr=False)
    path: Path | None = None
    without_box: tuple[int, ...] = ()

    def image_ids(self, images: Sequence[Path]) -> list[int]:
        """Return the id of each image, found by its file name.

        Raises InputError where an image is not in the file.
        """
        by_name: dict[str, list[dict[str, Any]]] = {}
        for entry in self.content["images"]:
            by_name.setdefault(_slashed(entry["file_name"]).rpartition("/")[2], []).append(entry)
        found = [
            _best_entry(by_name.get(_slashed(image.name).rpartition("/")[2], []), image) for image in images
        ]
        absent = [image for image, entry in zip(images, found, strict=True) if entry is None]
        if absent:
            raise InputError(
                f"{self.path}: annotates other images: {len(absent)} of the data set's {len(images)} images "
                f"are not in it (the first is {absent[0].name})"
            )
        ids = [entry["id"] for entry in found if entry is not None]
        if len(set(ids)) < len(ids):
            twice = next(image for image, i in zip(images, ids, strict=True) if ids.count(i) > 1)
            raise InputError(
                f"{self.path}: several images of the data set are called {twice.name}, and the file names "
                "in the annotations do not distinguish them"
            )
        return ids

    def category_ids(self, names: Sequence[str]) -> list[int]:
        """Return the category id of each class, found by its name.

        Of several categories with the name, it is the one that has boxes. Raises InputError where a class is
        not in the file, or several categories with its name have boxes.
        """
        exact, folded = self._ids_by_name()
        absent = [name for name in names if name not in exact and _folded(name) not in folded]
        if absent:
            raise InputError(
                f"{self.path}: has no category named {absent[0]!r} ({len(absent)} of {len(names)} "
                f"class names are not in it; its categories begin {list(exact)[:3]})"
            )
        used = {annotation["category_id"] for annotation in self.content["annotations"]}
        ids = [self._with_boxes(name, exact.get(name) or folded[_folded(name)], used) for name in names]
        if len(set(ids)) < len(ids):
            raise InputError(f"{self.path}: two of the {len(names)} classes share a category")
        return ids

    def _ids_by_name(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Return the ids of the categories by name, and by name without regard to case."""
        exact: dict[str, list[int]] = {}
        folded: dict[str, list[int]] = {}
        for category in self.content["categories"]:
            exact.setdefault(category["name"], []).append(category["id"])
            folded.setdefault(_folded(category["name"]), []).append(category["id"])
        return exact, folded

    def _with_boxes(self, name: str, ids: Sequence[int], used: Set[int]) -> int:
        """Return the id that has boxes, or the first where none has. ids: of the categories called name."""
        full = sorted(used & set(ids))
        if len(full) > 1:
            raise InputError(
                f"{self.path}: {len(full)} categories are called {name!r} (ids {full[0]} and {full[1]}), and "
                "each has boxes; give them one id, or different names"
            )
        return full[0] if full else ids[0]

    def all_ids(self) -> list[int]:
        """Return the ids of all categories."""
        return [category["id"] for category in self.content["categories"]]

    def labels(self, category_ids: Sequence[int]) -> dict[int, Labels]:
        """Return the true boxes by image id. Class i is category_ids[i].

        Other categories and crowds are left out.
        """
        classes = {category: i for i, category in enumerate(category_ids)}
        sizes = {image["id"]: (image["width"], image["height"]) for image in self.content["images"]}
        rows: dict[int, list[tuple[float, ...]]] = {image: [] for image in sizes}
        for annotation in self.content["annotations"]:
            label = classes.get(annotation["category_id"])
            if label is None or annotation.get("iscrowd") or annotation["image_id"] not in rows:
                continue
            box = _cxcywhn(annotation["bbox"], *sizes[annotation["image_id"]])
            if box is not None:
                rows[annotation["image_id"]].append((label, *box))
        return {image: _labels(found) for image, found in rows.items()}


def read_annotations(path: Path) -> Annotations:
    """Read a COCO instances file. Raises InputError where path is not such a file.

    Ids may be whole numbers, also as text or with a point. A missing area is the box's width x height.
    Annotations whose bbox is null or empty are left out, and listed in without_box.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    _check_lists(path, content)
    without_box = tuple(i for i, row in enumerate(content["annotations"]) if _has_no_box(row))
    content = {**content, **{key: _rows(path, key, content[key]) for key in _FIELDS}}
    _check_unique(path, content)
    return Annotations(content, path, without_box)


def derive_annotations(
    images: Mapping[Path, tuple[int, int]], labels: Mapping[Path, Labels], names: Sequence[str]
) -> Annotations:
    """Make annotations from labels. images: (width, height) in pixels by path. All ids count from 1."""
    rows: list[dict[str, Any]] = []
    entries = []
    for image_id, (image, (width, height)) in enumerate(images.items(), 1):
        entries.append({"id": image_id, "file_name": image.name, "width": width, "height": height})
        scale = np.array([width, height, width, height], np.float64)
        boxes = labels[image].boxes_cxcywhn * scale
        for label, (cx, cy, w, h) in zip(labels[image].classes.tolist(), boxes.tolist(), strict=True):
            row = {
                "id": len(rows) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "iscrowd": 0,
            }
            rows.append(row | {"bbox": [cx - w / 2, cy - h / 2, w, h], "area": w * h})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return Annotations({"images": entries, "annotations": rows, "categories": categories})


def _check_lists(path: Path, content: object) -> None:
    for key in _FIELDS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or (key == "categories" and not rows):
            raise InputError(f"{path}: is not a COCO instances file: it has no list {key!r}")


def _rows(path: Path, key: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of a list, completed and checked, without annotations that have no box."""
    kept = []
    for index, row in enumerate(rows):
        if key == "annotations" and _has_no_box(row):
            continue
        row = _completed(row) if isinstance(row, dict) else row
        _check_row(f"{path}: {key}[{index}]", row, _FIELDS[key])
        kept.append(row)
    return kept


def _check_row(place: str, row: object, fields: Mapping[str, _Field]) -> None:
    for name, (fits, wanted) in fields.items():
        if isinstance(row, dict) and name == "iscrowd" and name not in row:
            continue
        if not isinstance(row, dict) or name not in row:
            raise InputError(f"{place} has no {name!r}")
        if not fits(row[name]):
            raise InputError(f"{place} has {name} {reprlib.repr(row[name])}; {wanted} is expected")


def _has_no_box(row: object) -> bool:
    return isinstance(row, dict) and "bbox" in row and row["bbox"] in (None, [])


def _completed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with whole numbers as ids, and with an area where it has a box."""
    changed = {name: _whole(row[name]) for name in _IDS if name in row and type(row[name]) is not int}
    if row.get("area") is None and _is_box(row.get("bbox")):
        changed["area"] = row["bbox"][2] * row["bbox"][3]
    return row | changed if changed else row


def _whole(value: object) -> object:
    """Return a whole number that is written as text or with a point as an int, and anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
    return value


def _check_unique(path: Path, content: Mapping[str, Any]) -> None:
    """Raise InputError where two images or two categories have one id but different names."""
    for key, name in (("images", "file_name"), ("categories", "name")):
        names: dict[int, str] = {}
        for row in content[key]:
            other = names.setdefault(row["id"], row[name])
            if other != row[name]:
                raise InputError(
                    f"{path}: two of the {key} have the id {row['id']}: {other!r} and {row[name]!r}"
                )


def _is_id(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_side(value: object) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < _MOST


def _is_flag(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and value in (0, 1))


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_MOST = 1e15
"""Sizes and positions in pixels are below this. NaN and infinity are not."""
_IDS = ("id", "image_id", "category_id")
_Field = tuple[Callable[[Any], bool], str]
_FIELDS: Mapping[str, Mapping[str, _Field]] = {
    "images": {
        "id": (_is_id, "a whole number"),
        "file_name": (_is_text, "text"),
        "width": (_is_side, "a number of pixels"),
        "height": (_is_side, "a number of pixels"),
    },
    "annotations": {
        "id": (_is_id, "a whole number"),
        "image_id": (_is_id, "a whole number"),
        "category_id": (_is_id, "a whole number"),
        "bbox": (_is_box, "[x, y, width, height]"),
        "area": (_is_number, "a number"),
        "iscrowd": (_is_flag, "0 or 1"),
    },
    "categories": {"id": (_is_id, "a whole number"), "name": (_is_text, "text")},
}
"""The required fields of a COCO instances file: for each, a test of the value, and what is expected."""


def _best_entry(entries: list[dict[str, Any]], image: Path) -> dict[str, Any] | None:
    """Return the entry of an image, from those with its file name. Equal folders are preferred."""
    place = _slashed(image.as_posix())
    inside = [e for e in entries if place.endswith("/" + _slashed(e["file_name"]).lstrip("./"))]
    return max(inside or entries, key=lambda entry: len(entry["file_name"]), default=None)


def _slashed(name: str) -> str:
    """Return a path of Windows with slashes."""
    return name.replace("\\", "/")


def _folded(name: str) -> str:
    return name.strip().casefold()


def _cxcywhn(bbox_xywh: Sequence[float], width: int, height: int) -> tuple[float, ...] | None:
    """Normalise a box in pixels and clip it to the image. Return None where nothing of it is left."""
    x, y, w, h = bbox_xywh
    x1, x2 = (min(max(v / width, 0), 1) for v in (x, x + w))
    y1, y2 = (min(max(v / height, 0), 1) for v in (y, y + h))
    if x2 <= x1 or y2 <= y1:
        return None
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _labels(rows: list[tuple[float, ...]]) -> Labels:
    if not rows:
        return NO_LABELS
    table = np.array(rows, np.float64)
    return Labels(table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32)).without_duplicates()
