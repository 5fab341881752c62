"""Reading of a data set, from a data yaml or a folder: images, true boxes, annotations, corrupt files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from sparsity.base.errors import InputError
from sparsity.data.annotations import NO_LABELS, Annotations, Labels, derive_annotations, read_annotations
from sparsity.data.images import SUFFIXES, ImageHeader, scan_images
from sparsity.data.labels import label_path, read_labels
from sparsity.data.scan import Scan
from sparsity.data.sources import Source, Split, find_source, images_below

ONE_CLASS = ("item",)
"""The class names under single_cls."""


@dataclass(frozen=True)
class DatasetImage:
    """One image: its file, COCO id, width and height in pixels, and true boxes."""

    path: Path
    image_id: int
    width: int
    height: int
    labels: Labels = field(repr=False)


@dataclass(frozen=True)
class Dataset:
    """A data set that was read.

    images: sorted by path. names: of the classes, in order. annotations: in COCO's form. category_ids: the
    id of each class in the annotations. scan: the files that were found, missing or corrupt.
    """

    name: str
    images: tuple[DatasetImage, ...]
    names: tuple[str, ...]
    annotations: Annotations
    category_ids: tuple[int, ...]
    scan: Scan

    @property
    def image_ids(self) -> list[int]:
        """The COCO ids of the images, in the order of images."""
        return [image.image_id for image in self.images]

    @property
    def instances(self) -> int:
        """The number of true boxes, crowds left out."""
        return sum(len(image.labels) for image in self.images)


def identify(images: Sequence[DatasetImage]) -> bytes:
    """Return bytes to hash, which differ for different images.

    They hold names, ids, sizes in pixels and in bytes, and true boxes.
    """
    parts: list[bytes] = []
    for image in images:
        size = image.path.stat().st_size
        parts.append(f"{image.path.name} {image.image_id} {image.width} {image.height}{size}".encode())
        parts += (image.labels.classes.tobytes(), image.labels.boxes_cxcywhn.tobytes())
    return b"".join(parts)


def read_dataset(
    data: str | PathLike[str],
    names: Sequence[str],
    *,
    single_cls: bool = False,
    progress: bool = False,
    split: Split = "val",
) -> Dataset:
    """Read one split of a YOLOv5 data yaml, or of a folder with images/ and labels/.

    names: the class names of the checkpoint. Those of the data must be equal, unless single_cls counts all
    classes as one. Labels are read from text files, or from the COCO annotation file if there are no text
    files. Annotations are read from their file, or derived from the labels if there is no such file.
    Images that are corrupt, or have a corrupt label file, are left out and listed in scan.
    Raises InputError where the data can't be found, do not match the checkpoint, or hold no true box.
    """
    source = find_source(Path(data), split)
    if not single_cls:
        _check_names(source, names)
    headers = scan_images(source.images, progress=progress)
    file = None if source.annotations is None else read_annotations(source.annotations)
    read = _read_labels(source, file, names, single_cls)
    damaged = {path: f"{path}: {h.problem}" for path, h in headers.items() if h.problem}
    problems, labels = damaged | read.problems, read.labels
    sizes = {path: headers[path].size for path in source.images if path not in problems}
    if not sizes:
        raise InputError(f"{data}: no usable image; {next(iter(problems.values()))}")
    names = ONE_CLASS if single_cls else tuple(names)
    if file is None:
        annotations = derive_annotations(sizes, labels, names)
        ids, categories = range(1, len(sizes) + 1), range(1, len(names) + 1)
    else:
        annotations, ids = file, file.image_ids(list(sizes))
        categories = file.all_ids()[:1] if single_cls else file.category_ids(names)
    images = tuple(
        DatasetImage(path, image_id, width, height, labels[path])
        for image_id, (path, (width, height)) in zip(ids, sizes.items(), strict=True)
    )
    if not any(len(image.labels) for image in images):
        raise InputError(f"{data}: none of its {len(images)} images has a labelled box")
    found = [path for path in sizes if path in read.found]
    empty = sum(not len(labels[path]) for path in found)
    scan = Scan(len(found), len(sizes) - len(found), empty, tuple(problems.values()))
    return Dataset(str(data), images, names, annotations, tuple(categories), scan)


def read_images(folder: str | PathLike[str]) -> tuple[DatasetImage, ...]:
    """Read the images of a folder, or of images/ in it where that exists. They have no labels.

    They are sorted by path, and their ids count from 1. Corrupt images are left out. Raises InputError where
    there is no image.
    """
    paths = _image_paths(folder)
    return choose_images(folder, len(paths))[0]


def choose_images(
    folder: str | PathLike[str], count: int, *, seed: int = 0
) -> tuple[tuple[DatasetImage, ...], tuple[str, ...]]:
    """Choose count images of a folder at random, or all where it has fewer. Return images and problems.

    Only as many files are read as are needed. Corrupt images are replaced by others, and listed as problems.
    Otherwise the images are those of read_images.
    """
    paths = _image_paths(folder)
    order = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    headers: dict[Path, ImageHeader] = {}
    while (missing := count - sum(not header.problem for header in headers.values())) > 0 and order:
        headers |= scan_images(sorted(order[:missing], key=str))
        del order[:missing]
    usable = sorted((path for path, header in headers.items() if not header.problem), key=str)
    problems = tuple(f"{path}: {header.problem}" for path, header in headers.items() if header.problem)
    if not usable:
        raise InputError(f"{folder}: no usable image; {problems[0]}")
    images = (
        DatasetImage(path, image_id, *headers[path].size, NO_LABELS)
        for image_id, path in enumerate(usable, 1)
    )
    return tuple(images), problems


def _image_paths(folder: str | PathLike[str]) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a folder of images is expected")
    paths = images_below(folder / "images" if (folder / "images").is_dir() else folder)
    if not paths:
        raise InputError(f"{folder}: no images ({', '.join(sorted(SUFFIXES))}) in it")
    return paths


def _check_names(source: Source, names: Sequence[str]) -> None:
    if source.nc is not None and source.nc != len(names):
        raise InputError(
            f"{source.path}: has {source.nc} classes, but the checkpoint was trained on {len(names)}"
        )
    for index, (ours, theirs) in enumerate(zip(source.names or names, names, strict=True)):
        if ours.strip().casefold() != theirs.strip().casefold():
            raise InputError(
                f"{source.path}: class {index} is {ours!r}, but the checkpoint calls it {theirs!r}"
            )


@dataclass(frozen=True)
class _ReadLabels:
    """Labels by image; the images whose labels were found; images with corrupt labels, with the reason."""

    labels: dict[Path, Labels]
    found: Set[Path]
    problems: dict[Path, str]


def _read_labels(
    source: Source, annotations: Annotations | None, names: Sequence[str], single_cls: bool
) -> _ReadLabels:
    """Return the labels by image. Images with a corrupt label file have none."""
    files = {image: label_path(image) for image in source.images}
    present = {image for image, file in files.items() if file.is_file()}
    if present:
        return _labels_of_files(files, present, None if single_cls else len(names))
    if annotations is None:
        first = next(iter(files.values()))
        raise InputError(
            f"{source.path}: no labels: neither label files (such as {first}) nor a COCO "
            "annotation file (annotations/instances_*.json, or named by the key 'annotations')"
        )
    ids = annotations.all_ids() if single_cls else annotations.category_ids(names)
    return _labels_of_annotations(source, annotations, ids, single_cls)


def _labels_of_files(files: Mapping[Path, Path], present: Set[Path], nc: int | None) -> _ReadLabels:
    """Return the labels in label files. nc: the number of classes; None counts all classes as one."""
    labels: dict[Path, Labels] = {}
    problems: dict[Path, str] = {}
    for image, file in files.items():
        try:
            labels[image] = read_labels(file, nc) if image in present else NO_LABELS
        except (OSError, ValueError) as error:
            problems[image] = f"{file}: {error}"
    if nc is None:
        labels = {image: one.as_one_class() for image, one in labels.items()}
    return _ReadLabels(labels, present, problems)


def _labels_of_annotations(
    source: Source, annotations: Annotations, category_ids: Sequence[int], single_cls: bool
) -> _ReadLabels:
    by_id = annotations.labels(category_ids)
    ids = annotations.image_ids(source.images)
    labels = {image: by_id[i] for image, i in zip(source.images, ids, strict=True)}
    if single_cls:
        labels = {image: one.as_one_class() for image, one in labels.items()}
    return _ReadLabels(labels, {image for image, one in labels.items() if len(one)}, {})
