"""Files of torch.save: a zip, or pickles one after the other, with the storages of their tensors.

What they hold is read into inert records (see unpickle.py). Nothing in a file can run.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import torch
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.formats.unpickle import Reader, StoredTensor, unpickle

LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The first two numbers of a file of torch before 1.6."""
LEGACY_HEAD = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
LEGACY_COUNT = 8

ReadStorage: TypeAlias = "Callable[[str, int], bytes]"
"""Key of a storage, and the bytes that it must have -> its bytes. Raises InputError."""


class Storages(Protocol):
    """The storages of a file."""

    def opened(self) -> AbstractContextManager[ReadStorage]:
        """Open the file for reading storages."""


@dataclass(frozen=True)
class ZippedStorages:
    """The storages of a zip: members named prefix/data/key."""

    path: Path
    prefix: str

    @contextmanager
    def opened(self) -> Iterator[ReadStorage]:
        """Open the zip for reading storages."""
        with _open_archive(self.path) as archive:
            yield lambda key, size: _read_member(archive, self.path, f"{self.prefix}/data/{key}", size)


@dataclass(frozen=True)
class PlacedStorages:
    """The storages of a file that is no zip. places: key -> where it starts, and its bytes."""

    path: Path
    places: Mapping[str, tuple[int, int]]

    @contextmanager
    def opened(self) -> Iterator[ReadStorage]:
        """Open the file for reading storages."""
        with self.path.open("rb") as file:
            yield lambda key, size: self._read(file, key, size)

    def _read(self, file: BinaryIO, key: str, size: int) -> bytes:
        start, length = self.places.get(key, (0, -1))
        if length != size:
            raise InputError(f"{self.path}: damaged: storage {key} is missing or of another size")
        file.seek(start)
        return file.read(size)


@dataclass(frozen=True)
class StoredFile:
    """The root object of a file, and where its tensors lie.

    unknown: the globals that the file names and read_file has no class for, as module.name.
    """

    path: Path
    storages: Storages
    root: Any = field(repr=False)
    unknown: frozenset[str] = frozenset()

    def read_tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Read tensors by name, as stored. Raises InputError if the file does not hold one completely."""
        for tensor in stored.values():
            _check_view(self.path, tensor)
        size = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in stored.values())
        if size > self.path.stat().st_size:
            raise InputError(f"{self.path}: damaged: its tensors are larger than the file")
        with self.storages.opened() as read:
            return {name: self._read_tensor(read, tensor) for name, tensor in stored.items()}

    def _read_tensor(self, read: ReadStorage, stored: StoredTensor) -> Tensor:
        data = read(stored.key, stored.storage_elements * stored.dtype.itemsize)
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=stored.dtype)
        flat = torch.frombuffer(bytearray(data), dtype=stored.dtype)
        return flat.as_strided(stored.shape, stored.strides, stored.offset).clone()


def read_file(path: Path, class_names: Mapping[tuple[str, str], str]) -> StoredFile:
    """Read the object that torch.save wrote to path.

    class_names: the (module, name) globals that can occur as modules -> the class_name of their Records.
    Any other global becomes a Record whose class_name is module.name; nothing of that name is imported.
    Raises InputError if the file is missing, damaged or of another format.
    """
    if _check_head(path).startswith(LEGACY_HEAD):
        return _read_legacy(path, class_names)
    with _open_archive(path) as archive:
        pickled = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise InputError(f"{path}: a zip, but not one of torch.save: it has no data.pkl")
        prefix = pickled[0].removesuffix("/data.pkl")
        _check_format(archive, path, prefix)
        data = _read_member(archive, path, pickled[0])
    reader = Reader(io.BytesIO(data), class_names)
    root = unpickle(path, reader)
    return StoredFile(path, ZippedStorages(path, prefix), root, reader.unknown())


def _read_legacy(path: Path, class_names: Mapping[tuple[str, str], str]) -> StoredFile:
    """Read a file in the form of torch before 1.6: pickles one after the other, then the storages."""
    data = io.BytesIO(path.read_bytes())
    reader = Reader(data, class_names)
    magic, version, system = (unpickle(path, reader) for _ in range(3))
    if (magic, version) != (LEGACY_MAGIC, LEGACY_VERSION):
        raise InputError(f"{path}: damaged: its first numbers are not those of torch.save")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError(f"{path}: stored big-endian; only little-endian files are read")
    root, keys = unpickle(path, reader), unpickle(path, reader)
    places = _legacy_places(path, data, keys, reader.storage_sizes)
    return StoredFile(path, PlacedStorages(path, places), root, reader.unknown())


def _legacy_places(
    path: Path, data: io.BytesIO, keys: object, sizes: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return where the storages lie. Each one is its number of elements (8 bytes), and the elements."""
    places, end = {}, len(data.getbuffer())
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in sizes or key in places:
            raise InputError(f"{path}: damaged: its list of storages does not fit its tensors")
        start = data.tell() + LEGACY_COUNT
        if start + sizes[key] > end:
            raise InputError(f"{path}: truncated or damaged (storage {key}); download or copy it again")
        places[key] = (start, sizes[key])
        data.seek(start + sizes[key])
    return places


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip. Errors that zipfile raises for a damaged one become an InputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        message = f"{path}: truncated or damaged ({error}); download or copy it again"
        raise InputError(message) from error


def _check_head(path: Path) -> bytes:
    """Return a file's first bytes. Refuse a file that is not of torch.save. The error says what it is."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise InputError(f"{path}: empty (0 bytes); download or copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer, not the file itself; run git lfs pull")
    if not head.startswith((b"PK\x03\x04", LEGACY_HEAD)):
        raise InputError(
            f"{path}: not a checkpoint that torch.save wrote (a zip file is expected, "
            f"but it begins with {head[:16]!r})"
        )
    return head


def _check_format(archive: zipfile.ZipFile, path: Path, prefix: str) -> None:
    names = set(archive.namelist())
    if f"{prefix}/constants.pkl" in names:
        raise InputError(f"{path}: a TorchScript export; give the .pt checkpoint it was made from")
    order = f"{prefix}/byteorder"
    if order in names and _read_member(archive, path, order) != b"little":
        raise InputError(f"{path}: stored big-endian; only little-endian files are read")


def _read_member(archive: zipfile.ZipFile, path: Path, name: str, expected: int | None = None) -> bytes:
    """Return one member's bytes, checked by its CRC. Compressed members are refused: torch writes none."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise InputError(f"{path}: damaged: {name} is missing") from None
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{path}: {name} is compressed, which torch.save never does")
    if expected is not None and info.file_size != expected:
        raise InputError(f"{path}: {name} has {info.file_size} bytes; {expected} are expected")
    return archive.read(info)


def _check_view(path: Path, stored: StoredTensor) -> None:
    """Raise InputError unless the view lies inside its storage and is no larger than it."""
    numbers = (stored.offset, *stored.shape, *stored.strides)
    last = stored.offset + sum(
        (size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True)
    )
    elements = math.prod(stored.shape)
    inside = not elements or (last < stored.storage_elements and elements <= stored.storage_elements)
    if not inside or max(numbers) > stored.storage_elements:
        raise InputError(f"{path}: damaged: a tensor reaches outside its storage {stored.key}")
