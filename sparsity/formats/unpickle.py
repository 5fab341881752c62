"""Reads the pickles in files of torch.save into inert records. Nothing in them can run.

This is Python's documented way (pickle, "Restricting Globals"): every global that a file names is looked up
in a table. The table holds only classes of this module, which store what they are given. A global that is not
in the table becomes such a class, too: nothing is imported, whatever its name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

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
