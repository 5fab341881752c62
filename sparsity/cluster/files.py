"""Files that the machines of a cluster read: where they share a file system, or shipped to them by Ray."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from sparsity.base.errors import InputError
from sparsity.base.files import replacing
from sparsity.data.dataset import DatasetImage

MOST_BYTES = 4 * 2**30
"""The most that is shipped in all. Each machine writes a copy into its temporary folder."""
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Shipment:
    """Files for machines that do not see them.

    chunks: references to mappings from path to content in Ray's object store; () where all machines see all
    files. name: of the folder that they are written into, the same for the same files.
    """

    name: str = ""
    chunks: tuple[Any, ...] = ()
    _fetch: Any = field(default=None, repr=False)

    def local(self, path: Path) -> Path:
        """Return where this machine has a file: at its path, or in the folder of shipped files."""
        if not self.chunks or path.exists():
            return path
        return self._unpacked() / _place(path)

    def _unpacked(self) -> Path:
        """Return the folder of the shipped files, written once by the first task on a machine."""
        folder = Path(tempfile.gettempdir()) / f"sparsity-ray-{self.name}"
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            if not (folder / ".complete").exists():
                for chunk in self.chunks:
                    for path, content in self._fetch(chunk).items():
                        file = folder / _place(Path(path))
                        file.parent.mkdir(exist_ok=True)
                        with replacing(file, durable=False) as temporary:
                            temporary.write_bytes(content)
                (folder / ".complete").touch()
        return folder


def _place(path: Path) -> Path:
    """Return the place of a file in the folder: its name, in a folder for the one that it comes from."""
    return Path(hashlib.sha256(str(path.parent).encode()).hexdigest()[:16], path.name)


def localise(images: Sequence[DatasetImage], shipment: Shipment) -> tuple[DatasetImage, ...]:
    """Return the images at their places on this machine."""
    return tuple(replace(image, path=shipment.local(image.path)) for image in images)


def absolute(images: Sequence[DatasetImage]) -> tuple[DatasetImage, ...]:
    """Return the images with absolute paths: a worker runs in another folder."""
    return tuple(replace(image, path=image.path.absolute()) for image in images)


def missing_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the files and folders that this machine does not see."""
    return [path for path in paths if not path.exists()]


def ship(paths: Sequence[Path], put: Any, fetch: Any) -> Shipment:
    """Put the content of files into the object store. put, fetch: Ray's.

    Raises InputError where that is more than MOST_BYTES.
    """
    total = sum(path.stat().st_size for path in paths)
    if total > MOST_BYTES:
        raise InputError(
            f"{paths[0]}: not every machine of the cluster sees this path, and {total / 2**30:.1f} GiB are "
            f"too much to ship (at most {MOST_BYTES // 2**30} GiB); put the files on a shared file system"
        )
    name = hashlib.sha256("\n".join(f"{path} {path.stat()}" for path in paths).encode()).hexdigest()[:16]
    chunks, chunk, size = [], {}, 0
    for path in paths:
        chunk[str(path)] = path.read_bytes()
        size += len(chunk[str(path)])
        if size >= CHUNK_BYTES:
            chunks.append(put(chunk))
            chunk, size = {}, 0
    if chunk:
        chunks.append(put(chunk))
    return Shipment(name, tuple(chunks), fetch)
