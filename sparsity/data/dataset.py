"""Reading of a data set, from a data yaml or a folder: images, true boxes, annotations, corrupt files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from sparsity.base.arguments import require_location
from sparsity.base.errors import InputError
from sparsity.base.progress import say
from sparsity.data.annotations import NO_LABELS, Annotations, Labels, derive_annotations, read_annotations
from sparsity.data.images import SUFFIXES, ImageHeader, scan_images
from sparsity.data.labels import YOLOV5, LabelTolerance, label_path, read_labels
from sparsity.data.scan import Scan
from sparsity.data.sources import Source, Split, exists, files_below, find_source, is_image, is_other_image

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
    tolerance: LabelTolerance = YOLOV5,
    ignore_names: bool = False,
    say: Callable[[str], None] = say,
) -> Dataset:
    """Read one split of a YOLOv5 data yaml, or of a folder with images/ and labels/.

    names: the class names of the checkpoint. Those of the data must be equal, unless single_cls counts all
    classes as one, or ignore_names trusts that the classes are the same under other names. Their number must
    be equal then, too. Labels are read from text files, or from the COCO annotation file if there are no text
    files. Annotations are read from their file, or derived from the labels if there is no such file.
    tolerance: the range of coordinates in label files, as the family's own validation has it.
    say: called with a warning where images in other formats, or annotations without a box, are skipped.
    Images that are corrupt, or have a corrupt label file, are left out and listed in scan.
    Raises InputError where the data can't be found, do not match the checkpoint, or hold no true box.
    """
    require_location(data, "data")
    source = find_source(Path(data), split)
    if not single_cls:
        _check_names(source, names, ignore_names)
    _check_presence(source)
    headers = scan_images(source.images, progress=progress)
    file = None if source.annotations is None else read_annotations(source.annotations)
    for warning in _warnings(source, file):
        say(warning)
    called = (source.names or names) if ignore_names else names
    read = _read_labels(source, file, called, single_cls, tolerance)
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
        categories = file.all_ids()[:1] if single_cls else file.category_ids(called)
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


def read_images(folder: str | PathLike[str], *, say: Callable[[str], None] = say) -> tuple[DatasetImage, ...]:
    """Read the images of a folder, or of images/ in it where that exists. They have no labels.

    They are sorted by path, and their ids count from 1. Corrupt images and images in other formats are left
    out. say: called with a warning where there are some. Raises InputError where there is no image.
    """
    paths = _image_paths(folder)[0]
    images, problems = choose_images(folder, len(paths))
    if problems:
        say(f"WARNING: {len(problems)} images are skipped, such as {problems[0]}")
    return images


def choose_images(
    folder: str | PathLike[str], count: int, *, seed: int = 0
) -> tuple[tuple[DatasetImage, ...], tuple[str, ...]]:
    """Choose count images of a folder at random, or all where it has fewer. Return images and problems.

    Only as many files are read as are needed. Corrupt images are replaced by others, and listed as problems,
    as are images in other formats. Otherwise the images are those of read_images.
    """
    paths, skipped = _image_paths(folder)
    order = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    headers: dict[Path, ImageHeader] = {}
    while (missing := count - sum(not header.problem for header in headers.values())) > 0 and order:
        headers |= scan_images(sorted(order[:missing], key=str))
        del order[:missing]
    usable = sorted((path for path, header in headers.items() if not header.problem), key=str)
    problems = tuple(f"{path}: {header.problem}" for path, header in headers.items() if header.problem)
    problems += tuple(f"{path}: {path.suffix} files are not read" for path in skipped)
    if not usable:
        raise InputError(f"{folder}: no usable image; {problems[0]}")
    images = (
        DatasetImage(path, image_id, *headers[path].size, NO_LABELS)
        for image_id, path in enumerate(usable, 1)
    )
    return tuple(images), problems


def _image_paths(folder: str | PathLike[str]) -> tuple[list[Path], list[Path]]:
    """Return the images of a folder, and those in other formats, which are skipped."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a folder of images is expected")
    files = files_below(folder / "images" if (folder / "images").is_dir() else folder)
    paths, skipped = (list(filter(wanted, files)) for wanted in (is_image, is_other_image))
    if not paths:
        also = f"; {len(skipped)} are in other formats, such as {skipped[0]}" if skipped else ""
        raise InputError(f"{folder}: no images ({', '.join(sorted(SUFFIXES))}) in it{also}")
    return paths, skipped


def _warnings(source: Source, annotations: Annotations | None) -> Iterator[str]:
    """Give a line for each kind of input that is skipped."""
    if source.skipped:
        suffixes = ", ".join(sorted({path.suffix.lower() for path in source.skipped}))
        yield (
            f"WARNING: {source.path}: {len(source.skipped)} images in other formats ({suffixes}) are "
            f"skipped, such as {source.skipped[0]}; convert them to .png or .jpg"
        )
    if annotations is not None and annotations.without_box:
        first = annotations.without_box[0]
        yield (
            f"WARNING: {annotations.path}: {len(annotations.without_box)} annotations have no bbox and are "
            f"skipped, such as annotations[{first}]"
        )


def _check_presence(source: Source) -> None:
    """Raise InputError where no image of the source exists, as where a list names another machine's."""
    if not any(map(exists, source.images)):
        raise InputError(
            f"{source.path}: none of its {len(source.images)} images exists (the first is "
            f"{source.images[0]}); a list file needs paths on this machine, or paths relative to the list "
            "file, such as ./images/a.jpg"
        )


def _check_names(source: Source, names: Sequence[str], ignored: bool) -> None:
    if source.nc is not None and source.nc != len(names):
        raise InputError(
            f"{source.path}: has {source.nc} classes, but the checkpoint was trained on {len(names)}"
        )
    if ignored or source.names is None:
        return
    for index, (ours, theirs) in enumerate(zip(source.names, names, strict=True)):
        if ours.strip().casefold() == theirs.strip().casefold():
            continue
        if index in source.unnamed:
            raise InputError(
                f"{source.path}: names has no number {index}, which the checkpoint calls {theirs!r}; number "
                f"the {len(names)} names from 0 on, or give `ignore_names`"
            )
        raise InputError(
            f"{source.path}: class {index} is {ours!r}, but the checkpoint calls it {theirs!r}; "
            "if the classes are the same, give `ignore_names`"
        )


@dataclass(frozen=True)
class _ReadLabels:
    """Labels by image; the images whose labels were found; images with corrupt labels, with the reason."""

    labels: dict[Path, Labels]
    found: Set[Path]
    problems: dict[Path, str]


def _read_labels(
    source: Source,
    annotations: Annotations | None,
    names: Sequence[str],
    single_cls: bool,
    tolerance: LabelTolerance,
) -> _ReadLabels:
    """Return the labels by image. Images with a corrupt label file have none."""
    files = {image: label_path(image) for image in source.images}
    present = {image for image, file in files.items() if exists(file) and file.is_file()}
    if present:
        return _labels_of_files(files, present, None if single_cls else len(names), tolerance)
    if annotations is None:
        first = next((file for image, file in files.items() if exists(image)), "none")
        raise InputError(
            f"{source.path}: no labels: neither label files (such as {first}) nor a COCO "
            "annotation file (annotations/instances_*.json, or named by the key 'annotations')"
        )
    ids = annotations.all_ids() if single_cls else annotations.category_ids(names)
    return _labels_of_annotations(source, annotations, ids, single_cls)


def _labels_of_files(
    files: Mapping[Path, Path], present: Set[Path], nc: int | None, tolerance: LabelTolerance
) -> _ReadLabels:
    """Return the labels in label files. nc: the number of classes; None counts all classes as one."""
    labels: dict[Path, Labels] = {}
    problems: dict[Path, str] = {}
    for image, file in files.items():
        try:
            labels[image] = read_labels(file, nc, tolerance) if image in present else NO_LABELS
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
