"""The images, class names and annotation file of a data set, as a yaml or a folder describes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from sparsity.base.errors import InputError
from sparsity.data.images import SUFFIXES

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Source:
    """The description of a data set.

    images: files sorted by path. names, nc (the number of classes), annotations: None where not given.
    """

    path: Path
    images: tuple[Path, ...]
    names: tuple[str, ...] | None = None
    nc: int | None = None
    annotations: Path | None = None


def find_source(path: Path, split: Split = "val") -> Source:
    """Find the images of a split that a data yaml, or a folder, describes.

    In a folder without a yaml, the split is a list file or a folder of images that is named after it. If
    there is none for train, the images of val are taken. The yaml's key annotations belongs to val.
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


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted. Hidden ones are left out."""
    found = (f for f in folder.rglob("*") if _is_image(f) and not _is_hidden(f.relative_to(folder)))
    return sorted(found, key=str)


def _from_yaml(path: Path, split: Split) -> Source:
    content = _read_yaml(path, split)
    names = _names(path, content)
    nc = content.get("nc", len(names))
    if nc != len(names):
        raise InputError(f"{path}: nc is {nc}, but there are {len(names)} names")
    root = _root(path, content)
    values = content[split] if isinstance(content[split], list) else [content[split]]
    images: list[Path] = []
    for value in values:
        images += _listed(path, split, root, str(value))
    given = content.get("annotations") if split == "val" else None
    annotations = None if given is None else _existing(path, "annotations", root, str(given))
    if annotations is None:
        annotations = _find_annotations(root, [Path(str(v)).stem for v in values], only=False)
    return Source(path, _sorted(path, split, images), names, nc, annotations)


def _from_folder(path: Path, split: Split) -> Source:
    named = _named_train(path) if split == "train" else None
    chosen = named or _choose(path)
    images = _listed(path, split, path, str(chosen.resolve()))
    annotations = _find_annotations(path, [chosen.stem], only=named is None)
    return Source(path, _sorted(path, split, images), annotations=annotations)


def _choose(path: Path) -> Path:
    """Return the list file or folder that holds the images: one named val, or else the only one."""
    lists = _lists(path)
    preferred = [file for file in lists if file.stem.startswith("val")] or lists
    if len(preferred) == 1:
        return preferred[0]
    splits = _folders(path, "val")
    return splits[0] if len(splits) == 1 else _images_folder(path)


def _named_train(path: Path) -> Path | None:
    """Return the only list file, or else the only folder of images, whose name begins with train."""
    lists = [file for file in _lists(path) if file.stem.startswith("train")]
    for found in (lists, _folders(path, "train")):
        if len(found) == 1:
            return found[0]
    return None


def _lists(path: Path) -> list[Path]:
    return [file for file in sorted(path.glob("*.txt")) if any(_read_list(file))]


def _folders(path: Path, split: Split) -> list[Path]:
    return sorted(p for p in _images_folder(path).glob(f"{split}*") if p.is_dir())


def _images_folder(path: Path) -> Path:
    return path / "images" if (path / "images").is_dir() else path


def _read_yaml(path: Path, split: Split) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: keys and values are expected (path, {split}, names)")
    absent = [key for key in (split, "names") if not content.get(key)]
    if absent:
        raise InputError(f"{path}: has no key {' and no key '.join(map(repr, absent))}")
    return content


def _names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names = content["names"]
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise InputError(f"{path}: names are numbered {list(names)[:5]}; 0, 1, 2, ... is expected")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{path}: names is {names!r}; a list, or a mapping from number to name, is expected")
    return tuple(str(name) for name in names)


def _root(path: Path, content: dict[str, Any]) -> Path:
    """Return the root of the yaml's paths: its key path, relative to the yaml or to the working folder."""
    given = content.get("path")
    return path.parent if not given else _existing(path, "path", path.parent, str(given))


def _existing(path: Path, key: str, root: Path, value: str) -> Path:
    """Return a path of the yaml, relative to root or else to the working folder."""
    tried = [root / value, Path(value)]
    if value.startswith("../"):
        # Exports of labelling services can start from a folder that does not exist.
        tried.append(root / value.removeprefix("../"))
    for candidate in tried:
        if candidate.exists():
            return candidate.resolve()
    places = " nor ".join(dict.fromkeys(str(place) for place in tried))
    raise InputError(f"{path}: {key} is {value!r}, but there is no {places}")


def _listed(path: Path, split: Split, root: Path, value: str) -> list[Path]:
    """Return the images of a folder, or of a list file."""
    place = _existing(path, split, root, value)
    if place.is_dir():
        return images_below(place)
    if place.suffix != ".txt":
        raise InputError(f"{path}: {split} is {value!r}; a folder or a list file (.txt) is expected")
    return list(_read_list(place))


def _read_list(file: Path) -> Iterator[Path]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a list of images ({error})") from error
    for line in lines:
        entry = Path(line.strip())
        if _is_image(entry):
            beside = file.parent / entry
            yield beside if line.startswith("./") or beside.exists() else entry.absolute()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _sorted(path: Path, split: Split, images: list[Path]) -> tuple[Path, ...]:
    if not images:
        raise InputError(f"{path}: no images ({', '.join(sorted(SUFFIXES))}) for the split {split}")
    return tuple(sorted(set(images), key=str))


def _find_annotations(root: Path, splits: list[str], *, only: bool) -> Path | None:
    """Return annotations/instances_SPLIT.json; with only, also a single instances file of another name."""
    folder = root / "annotations"
    for split in splits:
        if (folder / f"instances_{split}.json").is_file():
            return folder / f"instances_{split}.json"
    files = sorted(folder.glob("instances_*.json")) if only else []
    return files[0] if len(files) == 1 else None
