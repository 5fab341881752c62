"""What a source names: pictures and videos, by a file, a folder or a glob; or a camera."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sparsity.base.errors import InputError
from sparsity.data.images import OTHER_SUFFIXES, SUFFIXES
from sparsity.data.sources import exists, is_image

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
"""The suffixes of files that are read as videos, by OpenCV."""
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """Files of pictures and videos in order; or the number of a camera.

    skipped: image files in a folder or a glob, in formats that are not read.
    """

    files: tuple[Path, ...] = ()
    camera: int | None = None
    skipped: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FileName:
    """How the files about a picture are called: relative paths in the folder of the results.

    picture: with the suffix of the source. label: without suffix; no two sources have the same.
    """

    picture: PurePath
    label: PurePath


def is_video(path: Path) -> bool:
    """Whether the suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_source(text: str) -> Source:
    """Find the files that a source names: a picture, a video, a folder, a glob; or a camera's number.

    The files of a folder are those directly in it; a glob such as 'folder/**/*.jpg' reaches deeper.
    Raises InputError where there is none.
    """
    path = Path(text)
    if exists(path):
        return _from_folder(path) if path.is_dir() else _from_file(path)
    if text.isdecimal():
        return Source(camera=int(text))
    if not text or not _WILDCARDS.intersection(text):
        raise InputError(
            f"`source` {text!r}: no such file or folder; an image, a video, a folder, a glob such as "
            "'folder/*.jpg', or the number of a camera is expected"
        )
    return _chosen(_matches(path), f"{text}: matches no image or video")


def file_names(files: Sequence[Path]) -> dict[Path, FileName]:
    """Return the names of the files about each file. Subfolders below the common folder are kept."""
    absolute = {file: file.absolute() for file in files}
    common = os.path.commonpath([path.parent for path in absolute.values()]) if files else ""
    relative = {file: path.relative_to(common) for file, path in absolute.items()}
    stems = Counter(path.with_suffix("") for path in relative.values())
    return {
        file: FileName(path, path if stems[path.with_suffix("")] > 1 else path.with_suffix(""))
        for file, path in relative.items()
    }


def _matches(pattern: Path) -> list[Path]:
    """Return the files that a glob matches. ** stands for any folders; hidden files are left out."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if _WILDCARDS.intersection(part))
    try:
        found = sorted(Path(*parts[:first]).glob("/".join(parts[first:])))
    except (OSError, ValueError) as error:
        raise InputError(f"{pattern}: is no glob that can be used ({error})") from error
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def _from_file(path: Path) -> Source:
    if not (is_image(path) or is_video(path)):
        raise InputError(
            f"{path}: {path.suffix or 'a file without suffix'} is not read; images ({_list(SUFFIXES)}) and "
            f"videos ({_list(VIDEO_SUFFIXES)}) are"
        )
    return Source((path,))


def _from_folder(path: Path) -> Source:
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be read ({error.strerror})") from error
    files = [file for file in inside if file.is_file() and not file.name.startswith(".")]
    deeper = f"; '{path}/**/*' reaches its subfolders" if any(map(Path.is_dir, inside)) else ""
    return _chosen(files, f"{path}: no image or video in this folder{deeper}")


def _chosen(files: Sequence[Path], nothing: str) -> Source:
    """Return the images and videos among files. nothing: the error where there are none."""
    wanted = tuple(file for file in files if is_image(file) or is_video(file))
    if not wanted:
        raise InputError(f"{nothing} ({_list(SUFFIXES | VIDEO_SUFFIXES)})")
    skipped = (file for file in files if file.suffix.lower() in OTHER_SUFFIXES - VIDEO_SUFFIXES)
    return Source(wanted, skipped=tuple(skipped))


def _list(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))
