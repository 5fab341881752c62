"""The images, class names and annotation file of a data set, as a yaml or a folder describes them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NoReturn

import yaml

from sparsity.base.errors import InputError
from sparsity.data.images import OTHER_SUFFIXES, SUFFIXES

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
"""Shows a value of a yaml. Its length is limited, whatever the value refers to."""
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Source:
    """The description of a data set.

    images: files sorted by path. names, nc (the number of classes), annotations: None where not given.
    unnamed: the classes that the yaml gives no name; class 79 is then called class79.
    skipped: image files in formats that are not read.
    """

    path: Path
    images: tuple[Path, ...]
    names: tuple[str, ...] | None = None
    nc: int | None = None
    annotations: Path | None = None
    unnamed: tuple[int, ...] = ()
    skipped: tuple[Path, ...] = ()


def find_source(path: Path, split: Split = "val") -> Source:
    """Find the images of a split that a data yaml, or a folder, describes.

    In a folder without a yaml, the split is a list file or a folder of images that is named after it. If
    there is none for train, the images of val are taken. The yaml's key annotations belongs to val.
    Links to files and folders are followed.
    Raises InputError where path is neither, keys are missing, or there are no images.
    """
    if path.is_dir():
        yamls = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        return _from_yaml(yamls[0], split) if len(yamls) == 1 else _from_folder(path, split)
    if not path.is_file():
        raise InputError(f"{path}: no such data yaml or folder")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: a data yaml (.yaml) or a folder is expected")
    return _from_yaml(path, split)


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, sorted. Hidden ones are left out.

    Links to folders are followed, but for a link to a folder that the link is in. Raises InputError where a
    folder can't be listed.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error

    found: list[Path] = []
    above: dict[Path, frozenset[Path]] = {folder: frozenset()}
    for top, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        place = Path(top)
        inside = above.pop(place) | {place.resolve()}
        folders[:] = [
            name for name in folders if not name.startswith(".") and (place / name).resolve() not in inside
        ]
        above |= {place / name: inside for name in folders}
        found += [place / name for name in names if not name.startswith(".")]
    return sorted(found, key=str)


def exists(path: Path) -> bool:
    """Whether a path exists. Unlike Path.exists, this is False for a name that is too long."""
    try:
        return path.exists()
    except OSError:
        return False


def is_image(path: Path) -> bool:
    """Whether the suffix is that of an image format that is read."""
    return path.suffix.lower() in SUFFIXES


def is_other_image(path: Path) -> bool:
    """Whether the suffix is that of an image format that is not read."""
    return path.suffix.lower() in OTHER_SUFFIXES


def _from_yaml(path: Path, split: Split) -> Source:
    content = _read_yaml(path, split)
    names, unnamed = _names(path, content)
    _check_count(path, content.get("nc"), len(names))
    root = _root(path, content)
    given = content[split] if isinstance(content[split], list) else [content[split]]
    values = [_text(path, split, value) for value in given]
    files = [file for value in values for file in _listed(path, split, root, value)]
    given = content.get("annotations") if split == "val" else None
    if given is None:
        annotations = _find_annotations(root, [Path(value).stem for value in values], only=False)
    else:
        annotations = _existing(path, "annotations", root, _text(path, "annotations", given))
    images, skipped = _sorted(path, split, files)
    return Source(path, images, names, len(names), annotations, unnamed, skipped)


def _from_folder(path: Path, split: Split) -> Source:
    named = None if split == "val" else _named(path, split)
    if split == "test" and named is None:
        raise InputError(f"{path}: one list file or folder of images whose name begins with test is expected")
    chosen = named or _choose(path)
    files = _listed(path, split, path, str(chosen.resolve()))
    annotations = _find_annotations(path, [chosen.stem], only=named is None)
    images, skipped = _sorted(path, split, files)
    return Source(path, images, annotations=annotations, skipped=skipped)


def _choose(path: Path) -> Path:
    """Return the list file or folder that holds the images: one named val, or else the only one."""
    lists = _lists(path)
    preferred = [file for file in lists if file.stem.startswith("val")] or lists
    if len(preferred) == 1:
        return preferred[0]
    splits = _folders(path, "val")
    return splits[0] if len(splits) == 1 else _images_folder(path)


def _named(path: Path, split: Split) -> Path | None:
    """Return the only list file, or else the only folder of images, whose name begins with the split's."""
    lists = [file for file in _lists(path) if file.stem.startswith(split)]
    for found in (lists, _folders(path, split)):
        if len(found) == 1:
            return found[0]
    return None


def _lists(path: Path) -> list[Path]:
    return [file for file in sorted(path.glob("*.txt")) if any(_read_list(file))]


def _folders(path: Path, split: Split) -> list[Path]:
    return sorted(p for p in _images_folder(path).glob(f"{split}*") if p.is_dir())


def _images_folder(path: Path) -> Path:
    return path / "images" if (path / "images").is_dir() else path


_RAISED_BY_CONTENT = (
    *(OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)
"""What PyYAML raises, besides its own errors, on scalars such as 2024-13-45, 0x or 1:x, and deep nesting."""


def _read_yaml(path: Path, split: Split) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, *_RAISED_BY_CONTENT) as error:
        raise InputError(f"{path}: cannot be read as yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: keys and values are expected (path, {split}, names)")
    absent = [key for key in (split, "names") if not content.get(key)]
    if absent:
        raise InputError(f"{path}: has no key {' and no key '.join(map(repr, absent))}")
    return content


def _names(path: Path, content: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the class names, and the classes without one. There are as many classes as names, as in YOLOv5.

    A number that is missing leaves its class unnamed. A number beyond the classes names none.
    """
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise InputError(
            f"{path}: names is {_REPR.repr(names)}; a list, or a mapping from number to name, is expected"
        )
    wrong = [number for number in names if type(number) is not int or number < 0]
    if wrong:
        raise InputError(f"{path}: names has the number {_REPR.repr(wrong[0])}; 0, 1, 2, ... is expected")
    given = {number: _text(path, f"name {number}", name, "text") for number, name in names.items()}
    unnamed = tuple(number for number in range(len(given)) if number not in given)
    return tuple(given.get(number, f"class{number}") for number in range(len(given))), unnamed


def _check_count(path: Path, nc: object, expected: int) -> None:
    """Raise InputError where nc is given and is not the number of names. It may be in quotes."""
    if nc is None:
        return
    count = int(nc) if isinstance(nc, str) and nc.strip().isdecimal() and len(nc) < 10 else nc
    if type(count) not in (int, float) or count != expected:
        raise InputError(f"{path}: nc is {_REPR.repr(nc)}, but there are {expected} names")


def _text(path: Path, key: str, value: object, expected: str = "a path") -> str:
    """Return a scalar of the yaml as text. Raises InputError for a list, a mapping or nothing."""
    if isinstance(value, dict | list | set | tuple | bytes) or value is None:
        raise InputError(f"{path}: {key} is {_REPR.repr(value)}; {expected} is expected")
    return str(value)


def _root(path: Path, content: dict[str, Any]) -> Path:
    """Return the root of the yaml's paths: its key path, relative to the yaml or to the working folder."""
    given = content.get("path")
    return path.parent if not given else _existing(path, "path", path.parent, _text(path, "path", given))


def _existing(path: Path, key: str, root: Path, value: str) -> Path:
    """Return a path of the yaml, relative to root or else to the working folder."""
    tried = [root / value, Path(value)]
    if value.startswith("../"):
        # Exports of labelling services can start from a folder that does not exist.
        tried.append(root / value.removeprefix("../"))
    for candidate in tried:
        if exists(candidate):
            return candidate.resolve()
    places = " nor ".join(dict.fromkeys(str(place) for place in tried))
    raise InputError(f"{path}: {key} is {value!r}, but there is no {places}")


def _listed(path: Path, split: Split, root: Path, value: str) -> list[Path]:
    """Return the image files of a folder, or of a list file, in any format."""
    place = _existing(path, split, root, value)
    if place.is_dir():
        return [file for file in files_below(place) if is_image(file) or is_other_image(file)]
    if place.suffix != ".txt":
        raise InputError(f"{path}: {split} is {value!r}; a folder or a list file (.txt) is expected")
    return list(_read_list(place))


def _read_list(file: Path) -> Iterator[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a list of images ({error})") from error
    for line in lines:
        entry = line.strip()
        if is_image(Path(entry)) or is_other_image(Path(entry)):
            yield _entry(file.parent, entry)


def _entry(folder: Path, entry: str) -> Path:
    """Return the path of an entry of a list file in folder. Backslashes can separate folders."""
    if "\\" in entry and not exists(folder / entry):
        with_slashes = entry.replace("\\", "/")
        if exists(folder / with_slashes) or exists(Path(with_slashes)):
            entry = with_slashes
    beside = folder / entry
    if entry.startswith("./") or exists(beside):
        return beside
    return Path(entry) if PureWindowsPath(entry).is_absolute() else Path(entry).absolute()


def _sorted(path: Path, split: Split, files: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the images, and the files that are skipped. Each is sorted and without duplicates."""
    images, skipped = (
        tuple(sorted({file for file in files if wanted(file)}, key=str))
        for wanted in (is_image, is_other_image)
    )
    if not images:
        also = f"; {len(skipped)} are in other formats, such as {skipped[0]}" if skipped else ""
        raise InputError(f"{path}: no images ({', '.join(sorted(SUFFIXES))}) for the split {split}{also}")
    return images, skipped


def _find_annotations(root: Path, splits: list[str], *, only: bool) -> Path | None:
    """Return annotations/instances_SPLIT.json; with only, also a single instances file of another name."""
    folder = root / "annotations"
    for split in splits:
        if (folder / f"instances_{split}.json").is_file():
            return folder / f"instances_{split}.json"
    files = sorted(folder.glob("instances_*.json")) if only else []
    return files[0] if len(files) == 1 else None
