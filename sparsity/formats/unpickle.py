"""Reads files of torch.save into inert records. Nothing in the file can run.

This is Python's documented way (pickle, "Restricting Globals"): every global that a file names is looked up
in a table. The table holds only classes of this module, which store what they are given.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsity.base.errors import InputError

STORAGE_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
INERT_GLOBALS = frozenset(
    {
        ("argparse", "Namespace"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "WindowsPath"),
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
    }
)
"""Objects that training checkpoints hold besides the network, kept as records that are never read."""


class UnknownGlobalError(Exception):
    """The file names a global that is not in the table."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Record:
    """An object of the file: the name of its class, and its stored attributes."""

    class_name = ""
    state: dict[str, Any]

    def __new__(cls, *_arguments: object, **_keywords: object) -> Record:
        record = super().__new__(cls)
        record.state = {}
        return record

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        """Accept the arguments in the file. A pickle can also create an object without this call."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state.update(state)


class StoredDict(dict):
    """A collections.OrderedDict of the file: a dict without its stored attributes."""

    def __setstate__(self, state: object) -> None:
        """Drop the stored attributes: no name in the file can shadow a method."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file that is not read yet: a view into the storage named key."""

    dtype: torch.dtype
    key: str
    storage_elements: int
    offset: int = 0
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredFile:
    """The root object of a file, and where its tensors lie."""

    path: Path
    prefix: str
    root: Any = field(repr=False)

    def read_tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Read tensors by name, as stored. Raises InputError if the file does not hold one completely."""
        for tensor in stored.values():
            _check_view(self.path, tensor)
        size = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in stored.values())
        if size > self.path.stat().st_size:
            raise InputError(f"{self.path}: damaged: its tensors are larger than the file")
        with _open_archive(self.path) as archive:
            return {name: self._read_tensor(archive, tensor) for name, tensor in stored.items()}

    def _read_tensor(self, archive: zipfile.ZipFile, stored: StoredTensor) -> Tensor:
        expected = stored.storage_elements * stored.dtype.itemsize
        data = _read_member(archive, self.path, f"{self.prefix}/data/{stored.key}", expected)
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=stored.dtype)
        flat = torch.frombuffer(bytearray(data), dtype=stored.dtype)
        return flat.as_strided(stored.shape, stored.strides, stored.offset).clone()


def read_file(path: Path, class_names: Mapping[tuple[str, str], str]) -> StoredFile:
    """Read the object that torch.save wrote to path.

    class_names: the (module, name) globals that can occur as modules -> the class_name of their Records.
    Raises InputError if the file is missing, damaged or of another format, and UnknownGlobalError if it names
    any other global.
    """
    _check_head(path)
    with _open_archive(path) as archive:
        pickled = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise InputError(f"{path}: a zip, but not one of torch.save: it has no data.pkl")
        prefix = pickled[0].removesuffix("/data.pkl")
        _check_format(archive, path, prefix)
        data = _read_member(archive, path, pickled[0])
    return StoredFile(path, prefix, _unpickle(path, data, class_names))


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


def _check_head(path: Path) -> None:
    """Refuse a file that is not a zip. The error says what it is instead."""
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
    if not head.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path}: not a checkpoint that torch.save wrote (a zip file is expected, "
            f"but it begins with {head[:16]!r})"
        )


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


def _unpickle(path: Path, data: bytes, class_names: Mapping[tuple[str, str], str]) -> Any:
    try:
        return _Reader(io.BytesIO(data), class_names).load()
    except UnknownGlobalError:
        raise
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from error


_PLAIN_KEYS = (str, int, float, type(None))
_REFUSED_OPCODES = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.FROZENSET),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.DICT, pickle.PERSID),
)
"""Opcodes that torch.save never writes."""


def _check_keys(keys: Iterable[object]) -> None:
    """Raise UnpicklingError for keys that are not plain values: hashing these could run forever."""
    for key in keys:
        if not isinstance(key, _PLAIN_KEYS):
            raise pickle.UnpicklingError(f"a key or set member that is a {type(key).__name__}")


class _Reader(pickle._Unpickler):
    """An unpickler that knows only the globals of the table.

    It extends the unpickler in Python, not the one in C: only the former can be restricted to opcodes that
    are safe on hostile input. Not safe are a memo without bounds, states for the reader's own objects, and
    keys whose hash never ends.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in _REFUSED_OPCODES
    }

    def __init__(self, file: io.BytesIO, class_names: Mapping[tuple[str, str], str]) -> None:
        super().__init__(file)
        self._class_names = class_names

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record | StoredDict):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def _set_items(self, pairs: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(pairs) % 2:
            raise pickle.UnpicklingError("items for an object that is not a dict")
        _check_keys(pairs[::2])
        self.stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def load_additems(self) -> None:
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise pickle.UnpicklingError("members for an object that is not a set")
        _check_keys(items)
        self.stack[-1].update(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def find_class(self, module: str, name: str) -> Any:
        found = _GLOBALS.get((module, name))
        if found is not None:
            return found
        if (module, name) in self._class_names:
            class_name = self._class_names[module, name]
            return type(name, (Record,), {"class_name": class_name, "__slots__": ()})
        if (module, name) in INERT_GLOBALS:
            return type(name, (Record,), {"class_name": f"{module}.{name}", "__slots__": ()})
        raise UnknownGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> StoredTensor:
        tag, dtype, key, _location, elements = pid
        if tag != "storage" or not isinstance(dtype, _StorageType):
            raise ValueError("a persistent id that is not a storage")
        if not isinstance(key, str) or not isinstance(elements, int) or elements < 0:
            raise ValueError("a storage without a key and a size")
        return StoredTensor(dtype.dtype, key, elements)


@dataclass(frozen=True)
class _StorageType:
    """torch.HalfStorage and similar classes, as a value that cannot be called."""

    dtype: torch.dtype


def _tensor(storage: StoredTensor, offset: int, shape: tuple, strides: tuple, *_rest: object) -> StoredTensor:
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor whose shape is not a list of sizes")
    return StoredTensor(
        storage.dtype, storage.key, storage.storage_elements, offset, tuple(shape), tuple(strides)
    )


def _parameter(data: StoredTensor, *_rest: object) -> StoredTensor:
    return data


def _set(items: list = ()) -> set:
    _check_keys(items)
    return set(items)


def _size(items: tuple = ()) -> tuple:
    return tuple(items)


def _device(*_arguments: object) -> None:
    """Replace torch.device: the device of a stored tensor does not matter."""


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): StoredDict,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()},
}
