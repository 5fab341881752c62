"""Reads files of torch.save into inert records. Nothing in the file can run.

This is Python's documented way (pickle, "Restricting Globals"): every global that a file names is looked up
in a table. The table holds only classes of this module, which store what they are given. A global that is not
in the table becomes such a class, too: nothing is imported, whatever its name.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from sparsity.base.errors import InputError

STORAGE_DTYPES = {
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MOST_GLOBALS = 10_000
"""The most different globals that a file can name."""
LARGEST_KEY = 2**60
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The first two numbers of a file of torch before 1.6."""
LEGACY_HEAD = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
LEGACY_COUNT = 8


class Record:
    """An object of the file: the name of its class, what it was made of, and its stored attributes.

    class_name: the name that read_file was given for the class, or module.name of any other global.
    """

    class_name = ""
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: object, **_keywords: object) -> Record:
        record = super().__new__(cls)
        record.arguments, record.state = arguments, {}
        return record

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        """Accept the arguments in the file. A pickle can also create an object without this call."""

    def __call__(self, *_arguments: object) -> Record:
        """Return the record itself. A file can call what a call has returned."""
        return self

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state.update(state)


class StoredDict(dict):
    """A collections.OrderedDict of the file: a dict without its stored attributes."""

    def __init__(self, pairs: object = ()) -> None:
        """Take [[key, value], ...], as Python 2 stored it. Keys that are not plain values are refused."""
        super().__init__()
        for key, value in pairs if isinstance(pairs, list | tuple) else ():
            _check_keys([key])
            self[key] = value

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


def unpickle(path: Path, reader: Reader) -> Any:
    """Return the next object of a file. Raises InputError if it is damaged."""
    try:
        return reader.load()
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
    """Raise UnpicklingError for keys that are not plain values: hashing these could run forever.

    Numbers of over 60 bits are refused, too: many of them can have the same hash.
    """
    for key in keys:
        if not isinstance(key, _PLAIN_KEYS):
            raise pickle.UnpicklingError(f"a key or set member that is a {type(key).__name__}")
        if isinstance(key, int) and abs(key) >= LARGEST_KEY:
            raise pickle.UnpicklingError("a key or set member that is a number of over 60 bits")


class Reader(pickle._Unpickler):
    """An unpickler that knows only the globals of the table. Any other global becomes a Record.

    storage_sizes: key of each storage that a tensor names -> its bytes.

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
        self._records: dict[tuple[str, str], type[Record]] = {}
        self.storage_sizes: dict[str, int] = {}

    def unknown(self) -> frozenset[str]:
        """Return the globals that were met and have no class name, as module.name."""
        return frozenset(".".join(path) for path in self._records.keys() - self._class_names.keys())

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record | StoredDict):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_put(self) -> None:
        """Put an object into the memo under a number that the file has as text."""
        text = self.readline()
        _check_keys([int(text)])
        self.memo[int(text)] = self.stack[-1]

    dispatch[pickle.PUT[0]] = load_put

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_append(self) -> None:
        value = self.stack.pop()
        self._append([value])

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        self._append(self.pop_mark())

    dispatch[pickle.APPENDS[0]] = load_appends

    def _append(self, items: list[Any]) -> None:
        """Add items to a list. Those of a Record, which can stand for a kind of list, are dropped."""
        if isinstance(self.stack[-1], Record):
            return
        if not isinstance(self.stack[-1], list):
            raise pickle.UnpicklingError("items for an object that is not a list")
        self.stack[-1].extend(items)

    def _set_items(self, pairs: list[Any]) -> None:
        if isinstance(self.stack[-1], Record):
            return
        if not isinstance(self.stack[-1], dict) or len(pairs) % 2:
            raise pickle.UnpicklingError("items for an object that is not a dict")
        _check_keys(pairs[::2])
        self.stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def load_additems(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], Record):
            return
        if not isinstance(self.stack[-1], set):
            raise pickle.UnpicklingError("members for an object that is not a set")
        _check_keys(items)
        self.stack[-1].update(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def find_class(self, module: str, name: str) -> Any:
        found = _GLOBALS.get((module, name))
        if found is not None:
            return found
        path = (module, name)
        if path not in self._records:
            if len(self._records) == MOST_GLOBALS:
                raise pickle.UnpicklingError(f"more than {MOST_GLOBALS} classes")
            class_name = self._class_names.get(path, f"{module}.{name}")
            self._records[path] = type("Record", (Record,), {"class_name": class_name, "__slots__": ()})
        return self._records[path]

    def persistent_load(self, pid: Any) -> StoredTensor | Record | type[Record]:
        if len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], type) and issubclass(pid[1], Record):
            # Torch before 1.6 stored the class of a module together with its source, which is not read.
            return pid[1]
        tag, dtype, key, _location, elements, *view = pid
        if isinstance(dtype, type) and issubclass(dtype, Record):
            # A storage of an unknown type. Only tensors that nobody reads can have it.
            return dtype()
        if tag != "storage" or not isinstance(dtype, _StorageType) or view not in ([], [None]):
            raise ValueError("a persistent id that is not a storage")
        if not isinstance(key, str) or not isinstance(elements, int) or elements < 0:
            raise ValueError("a storage without a key and a size")
        size = elements * dtype.dtype.itemsize
        if self.storage_sizes.setdefault(key, size) != size:
            raise ValueError("a storage of two sizes")
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


def _of_type(rebuild: object, _type: object, arguments: tuple, _state: object = None) -> object:
    """Replace the function for tensors with attributes of their own, which are dropped."""
    if rebuild not in (_tensor, _parameter):
        raise ValueError("a tensor that is rebuilt by an unknown function")
    return rebuild(*arguments)


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
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()},
}
