"""Files that are written completely or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sparsity.base.errors import InputError


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path in the folder of path. On success it replaces path; on failure it is deleted.

    with replacing(target) as temporary: temporary.write_text(...)

    A killed process leaves the old file or the new one, never a part. durable: so does a power cut, since the
    content is on the disk before the file gets its name. Files that can be made again do without.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
        if durable:
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def delete_parts(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder and the folders in it.

    The caller must know that no process writes into the folder.
    """
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write content to path, completely or not at all. The folder is made if it is missing.

    Raises InputError, which names path, where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_text(path: Path, text: str) -> None:
    """Write text to path, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def encodable(text: str) -> str:
    """Return text that UTF-8 can encode: bytes of a file name that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_json(path: Path, content: object, indent: int | None = None) -> None:
    """Write content as JSON, completely or not at all."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def cache_folder() -> Path | None:
    """Return the folder for files that can be made again; None for a user without a home folder."""
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG standard has relative paths ignored.
        return (given if given.is_absolute() else Path.home() / ".cache") / "sparsity"
    except RuntimeError:
        return None


def probe_writing(folder: Path) -> None:
    """Raise InputError where no file can be written into folder. It need not exist yet."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written into ({error.strerror or error})") from error


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn an OSError of writing into an InputError that names the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: the results cannot be written ({error.strerror or error})") from error
