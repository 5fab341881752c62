"""Hostile and damaged files: nothing in them runs, and every refusal is one line that names the file."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.formats import loading, unpickle
from sparsity.formats.torch_file import read_file
from sparsity.formats.unpickle import Record, StoredTensor


def refusal(path: Path, read: Callable[[Path], object] = loading.load) -> str:
    """The message with which path is refused, checked for what every refusal must be."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file whose root is a dict of tensors; none where it is not."""
    stored = read_file(path, {})
    root = stored.root if isinstance(stored.root, dict) else {}
    return stored.read_tensors({str(k): v for k, v in root.items() if isinstance(v, StoredTensor)})


def write_archive(
    path: Path,
    pickled: bytes,
    storages: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
    **extra: bytes,
) -> Path:
    """A zip laid out as torch.save's, of any pickle and any storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in extra.items():
            archive.writestr(f"archive/{name}", data)
    return path


# --- code ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """Pickles as a call of function with arguments."""

    function: Any
    arguments: tuple

    def __reduce__(self) -> tuple[Any, tuple]:
        return self.function, self.arguments


def call_os_system(sentinel: Path) -> Call:
    return Call(os.system, (f"touch {sentinel}",))


def call_eval(sentinel: Path) -> Call:
    return Call(eval, (f"open({str(sentinel)!r}, 'w').close()",))


def call_through_getattr(sentinel: Path) -> Call:
    """getattr(getattr(import_module("pathlib"), "Path")(sentinel), "touch")(), never naming os."""
    path_class = Call(getattr, (Call(import_module, ("pathlib",)), "Path"))
    path = Call(map, (path_class, (str(sentinel),)))
    return Call(list, (Call(map, (Call(getattr, (path_class, "touch")), path)),))


def call_in_an_ordered_dict(sentinel: Path) -> OrderedDict:
    """The same as os.system, deep inside what a state dict looks like."""
    return OrderedDict(weight=torch.zeros(2), more=[{"deep": call_os_system(sentinel)}])


HOSTILE = [
    pytest.param(call_os_system, f"{os.system.__module__}.system", id="os.system"),
    pytest.param(call_eval, "{builtins}.eval", id="eval"),
    pytest.param(call_through_getattr, "{builtins}.", id="a getattr chain"),
    pytest.param(call_in_an_ordered_dict, "", id="nested in plain data"),
]
Payload = Callable[[Path], Any]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(("payload", "name"), HOSTILE)
def test_code_in_the_place_of_the_network_is_refused_by_name_and_never_run(
    tmp_path: Path, payload: Payload, name: str, protocol: int
) -> None:
    path, sentinel = tmp_path / "hostile.pt", tmp_path / "ran"
    torch.save({"model": payload(sentinel), "ema": None}, path, pickle_protocol=protocol)
    message = refusal(path)
    assert name.format(builtins="__builtin__" if protocol == 2 else "builtins") in message
    assert ("nothing in the file was run" if name else "no detection model of YOLOv5, YOLOv8") in message
    assert not sentinel.exists()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("payload", [case.values[0] for case in HOSTILE])
def test_code_beside_the_network_is_an_inert_record(tmp_path: Path, payload: Payload, protocol: int) -> None:
    path, sentinel = tmp_path / "hostile.pt", tmp_path / "ran"
    torch.save({"epoch": payload(sentinel), "x": torch.ones(2)}, path, pickle_protocol=protocol)
    root = read_file(path, {}).root
    assert isinstance(root["epoch"], Record | dict)
    assert read_tensors(path)["x"].tolist() == [1, 1]
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"cos\nsystem\n(S'touch ran'\ntR.", id="REDUCE"),
        pytest.param(b"\x80\x02cos\nsystem\nU\x09touch ran\x85\x81.", id="NEWOBJ"),
        pytest.param(b"\x80\x04cos\nsystem\n\x8c\x09touch ran\x85}\x92.", id="NEWOBJ_EX"),
        pytest.param(b"cos\nsystem\n(S'touch ran'\ntR}b.", id="BUILD"),
        pytest.param(b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR(S'y'\ntR.", id="a call of a result"),
        pytest.param(b"ccollections\ndeque\n)R(K\x01K\x02e.", id="APPENDS"),
        pytest.param(b"ccollections\ndeque\n)RK\x01a.", id="APPEND"),
        pytest.param(b"ccollections\nCounter\n)R(K\x01K\x02u.", id="SETITEMS"),
        pytest.param(b"\x80\x04cbuiltins\nfrozenset\n)R(K\x01K\x02\x90.", id="ADDITEMS"),
        pytest.param(b"ctorch\nUntypedStorage\n.", id="a storage of an unknown type"),
        pytest.param(b"c\xd0\xbe\xd1\x81\nsys\x1btem\n)R.", id="an unprintable name"),
    ],
)
def test_whatever_is_done_with_an_unknown_global_gives_a_record(tmp_path: Path, pickled: bytes) -> None:
    path = write_archive(tmp_path / "a.pt", pickled)
    root = read_file(path, {}).root
    assert isinstance(root, Record) or issubclass(root, Record)
    assert not Path("ran").exists()


def test_globals_without_end_are_refused(tmp_path: Path) -> None:
    """A class takes a kilobyte of memory and ten bytes of the file."""
    pickled = b"".join(b"ca\n%d\n0" % i for i in range(10_001)) + b"N."
    assert "more than 10000 classes" in refusal(write_archive(tmp_path / "a.pt", pickled))


@pytest.mark.parametrize(("payload", "name"), HOSTILE[:3])
def test_the_same_payloads_do_run_where_pickle_reads_them(
    tmp_path: Path, payload: Payload, name: str
) -> None:
    """Without this the sentinel of the test above would prove nothing."""
    sentinel = tmp_path / "ran"
    assert name
    pickle.loads(pickle.dumps(payload(sentinel)))
    assert sentinel.exists()


def stack_global(module: str, name: str) -> bytes:
    """A pickle (protocol 4) that pushes one global."""
    parts = (b"\x8c" + bytes([len(text.encode())]) + text.encode() for text in (module, name))
    return b"\x80\x04" + b"".join(parts) + b"\x93"


@pytest.mark.parametrize(
    ("pickled", "name"),
    [
        pytest.param(b"(S'true'\nios\nsystem\n.", "os.system", id="INST, the opcode of protocol 0"),
        pytest.param(b"(cos\nsystem\nS'true'\no.", "os.system", id="OBJ"),
        pytest.param(b"cos\nsystem\n.", "os.system", id="named, not called"),
        pytest.param(
            stack_global("collections", "OrderedDict.__init__.__globals__") + b".",
            "collections.OrderedDict.__init__.__globals__",
            id="a dotted way out of a known class",
        ),
        pytest.param(
            stack_global("torch", "serialization.os.system") + b".",
            "torch.serialization.os.system",
            id="a dotted way out of a known module",
        ),
        pytest.param(
            stack_global("sparsity.formats.unpickle", "Record") + b".",
            "sparsity.formats.unpickle.Record",
            id="the reader's own class",
        ),
        pytest.param(stack_global("o\ns", "sys\x1b[2Jtem") + b".", "refused", id="unprintable name"),
    ],
)
def test_a_global_is_refused_however_it_is_named(tmp_path: Path, pickled: bytes, name: str) -> None:
    assert name in refusal(write_archive(tmp_path / "a.pt", pickled))


def test_a_long_name_does_not_flood_the_message(tmp_path: Path) -> None:
    pickled = b"\x80\x04" + (b"X" + struct.pack("<I", 10**6) + b"n" * 10**6) * 2 + b"\x93."
    refusal(write_archive(tmp_path / "a.pt", pickled))


# --- states ----------------------------------------------------------------------------------------


def with_state(global_name: bytes, call: bytes, state: object) -> bytes:
    """A pickle of {"x": object}, where the object gets a state that no honest file stores."""
    inner = pickle.dumps(state, protocol=2)[2:-1]
    return b"\x80\x02}X\x01\x00\x00\x00x" + b"c" + global_name + call + inner + b"bs."


SHADOWED = ("__setstate__", "__class__", "__dict__", "state", "class_name", "get", "items")
SHADOWS = dict.fromkeys(SHADOWED, 1)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(SHADOWS, id="a dict"),
        pytest.param((None, SHADOWS), id="slots"),
        pytest.param((SHADOWS, SHADOWS), id="both"),
    ],
)
def test_a_state_shadows_no_method(tmp_path: Path, state: object) -> None:
    record = write_archive(tmp_path / "r.pt", with_state(b"argparse\nNamespace\n", b")\x81", state))
    ordered = write_archive(tmp_path / "o.pt", with_state(b"collections\nOrderedDict\n", b")R", state))
    read = read_file(record, {}).root["x"]
    assert read.class_name == "argparse.Namespace"
    assert read.state == (state if isinstance(state, dict) else {})
    assert callable(read.__setstate__)
    stored = read_file(ordered, {}).root["x"]
    assert stored.items() == {}.items()
    assert stored.get("items") is None


def int_tensors(path: Path) -> Path:
    pickled = dump({"x": View(Storage(torch.IntStorage, "0", 3), 0, (3,), (1,))})
    return write_archive(path, pickled, {"0": struct.pack("<3i", 1, 2, 3)})


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"dtype": 1}, id="a dict"),
        pytest.param((None, {"dtype": 1}), id="slots"),
    ],
)
def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path: Path, state: object) -> None:
    path = write_archive(tmp_path / "a.pt", with_state(b"torch\nIntStorage\n", b"", state))
    refusal(path)
    assert read_tensors(int_tensors(tmp_path / "good.pt"))["x"].tolist() == [1, 2, 3]


def functions_of_the_reader() -> dict[str, dict[str, object]]:
    """What is stored on each function of the module."""
    return {name: dict(vars(f)) for name, f in vars(unpickle).items() if isinstance(f, FunctionType)}


@pytest.mark.parametrize("function", ["_rebuild_tensor_v2", "_rebuild_parameter"])
def test_a_file_cannot_change_the_reader(tmp_path: Path, function: str) -> None:
    before = functions_of_the_reader()
    name = b"torch._utils\n" + function.encode() + b"\n"
    path = write_archive(tmp_path / "a.pt", with_state(name, b"", {"added": 1}))
    with suppress(InputError):
        read_file(path, {})
    assert functions_of_the_reader() == before


# --- pickles that cost too much --------------------------------------------------------------------


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"\x80\x02}r\xff\xff\xff\x7f.", id="LONG_BINPUT"),
        pytest.param(b"}p2147483647\n.", id="PUT"),
    ],
)
def test_a_memo_index_costs_no_memory(tmp_path: Path, pickled: bytes) -> None:
    path = write_archive(tmp_path / "a.pt", pickled)
    tracemalloc.start()
    assert "no detection model of YOLOv5, YOLOv8" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x02}", id="no end"),
        pytest.param(b"\x80\x02.", id="nothing on the stack"),
        pytest.param(b"\x80\xff}.", id="a protocol to come"),
        pytest.param(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", id="bytes of 9 exabytes"),
        pytest.param(b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", id="a bytearray of 9 exabytes"),
        pytest.param(b"\x80\x02\x82\x01.", id="an extension code"),
        pytest.param(b"\x80\x02K\x01Q.", id="a persistent id that is a number"),
        pytest.param(b"\x80\x02}h\x05.", id="a memo entry that is not there"),
        pytest.param(b"\x80\x02}]s.", id="an unhashable key"),
    ],
)
def test_a_damaged_pickle_is_refused(tmp_path: Path, pickled: bytes) -> None:
    assert "damaged" in refusal(write_archive(tmp_path / "a.pt", pickled))


DEEP_KEY = b"\x80\x02}" + b")" + b"\x85" * 2_000_000 + b"Ns."
WIDE_KEY = b"\x80\x02}" + b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Ns."
SAME_HASH = tuple(range(0, 50_000 * (2**61 - 1), 2**61 - 1))
COLLIDING = tuple(b"\x8a\x0a" + n.to_bytes(10, "little") for n in SAME_HASH)
DEEP_PAIR = b"\x80\x02ccollections\nOrderedDict\n](" + b")" + b"\x85" * 2_000_000 + b"Nte\x85R."


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(DEEP_KEY, id="a key nested too deep to hash"),
        pytest.param(WIDE_KEY, id="a key that doubles 60 times"),
        pytest.param(DEEP_PAIR, id="a deep key in the pairs of an OrderedDict"),
        pytest.param(b"\x80\x02}(" + b"".join(n + b"N" for n in COLLIDING) + b"u.", id="keys of one hash"),
        pytest.param(b"\x80\x04\x8f(" + b"".join(COLLIDING) + b"\x90.", id="members of one hash"),
        pytest.param(b"}" + b"".join(b"p%d\n" % n for n in SAME_HASH) + b".", id="a memo of one hash"),
    ],
)
def test_a_key_cannot_crash_or_hang_the_reader(tmp_path: Path, pickled: bytes) -> None:
    """In a process of its own: it is the interpreter that would die."""
    script = """
        import sys
        from pathlib import Path
        from sparsity.formats.torch_file import InputError, read_file
        try:
            read_file(Path(sys.argv[1]), {})
        except InputError:
            sys.exit(7)
    """
    path = write_archive(tmp_path / "a.pt", pickled)
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=False, timeout=60, env=environment)
    assert done.returncode == 7


# --- tensors ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Storage:
    """Pickles as a storage: its dtype's class, its key, its number of elements."""

    kind: Any
    key: Any
    elements: Any


@dataclass(frozen=True)
class View:
    """Pickles as a tensor: a view into a storage."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any

    def __reduce__(self) -> tuple[Any, tuple]:
        rest = (False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, (self.storage, self.offset, self.shape, self.strides, *rest)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> tuple | None:
        return ("storage", obj.kind, obj.key, "cpu", obj.elements) if isinstance(obj, Storage) else None


def dump(root: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(root)
    return buffer.getvalue()


SIX = Storage(torch.FloatStorage, "0", 6)
SIX_BYTES = struct.pack("<6f", 0, 1, 2, 3, 4, 5)


def write_view(path: Path, view: View, data: bytes = SIX_BYTES) -> Path:
    return write_archive(path, dump({"t": view}), {"0": data})


@pytest.mark.parametrize(
    ("view", "values"),
    [
        pytest.param(View(SIX, 0, (2, 3), (3, 1)), [[0, 1, 2], [3, 4, 5]], id="whole"),
        pytest.param(View(SIX, 0, (3, 2), (1, 3)), [[0, 3], [1, 4], [2, 5]], id="transposed"),
        pytest.param(View(SIX, 4, (2,), (1,)), [4, 5], id="the end"),
        pytest.param(View(SIX, 5, (), ()), 5, id="a scalar"),
        pytest.param(View(SIX, 0, (3,), (0,)), [0, 0, 0], id="expanded, within its storage's size"),
        pytest.param(View(SIX, 0, (0, 3), (3, 1)), [], id="empty"),
    ],
)
def test_views_are_read(tmp_path: Path, view: View, values: list) -> None:
    assert read_tensors(write_view(tmp_path / "a.pt", view))["t"].tolist() == values


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(View(SIX, 0, (7,), (1,)), id="longer than its storage"),
        pytest.param(View(SIX, 1, (6,), (1,)), id="an offset that shifts it out"),
        pytest.param(View(SIX, 6, (1,), (1,)), id="starts one after the end"),
        pytest.param(View(SIX, 0, (2,), (6,)), id="a stride that leaves it"),
        pytest.param(View(SIX, 0, (10**6, 10**6), (0, 0)), id="expanded to 4 TB"),
        pytest.param(View(SIX, 0, (-1,), (1,)), id="a negative size"),
        pytest.param(View(SIX, 0, (2,), (-1,)), id="a negative stride"),
        pytest.param(View(SIX, -1, (2,), (1,)), id="a negative offset"),
        pytest.param(View(SIX, 0, (2,), (1, 1)), id="more strides than sizes"),
        pytest.param(View(SIX, 0, ("2",), (1,)), id="a size that is a word"),
        pytest.param(View(SIX, 0, (2.0,), (1,)), id="a size that is a float"),
        pytest.param(View(SIX, 0, (True,), (1,)), id="a size that is a truth value"),
        pytest.param(View(SIX, False, (2,), (1,)), id="an offset that is a truth value"),
        pytest.param(View(SIX, None, (2,), (1,)), id="no offset"),
        pytest.param(View(SIX, 0, 2, 1), id="a shape that is a number"),
        pytest.param(View("0", 0, (2,), (1,)), id="a storage that is a word"),
        pytest.param(View(SIX, 0, (1,), (2**70,)), id="a stride over 64 bits that is never used"),
        pytest.param(View(SIX, 2**70, (0,), (1,)), id="empty, with an offset over 64 bits"),
        pytest.param(View(SIX, 0, (0, 2**70), (1, 1)), id="empty, with a size over 64 bits"),
        pytest.param(View(Storage(torch.FloatStorage, "0", 5), 0, (5,), (1,)), id="storage larger than said"),
        pytest.param(View(Storage(torch.FloatStorage, "0", 60), 0, (60,), (1,)), id="smaller than said"),
        pytest.param(View(Storage(torch.FloatStorage, "0", -6), 0, (0,), (1,)), id="storage of -6"),
        pytest.param(View(Storage(torch.FloatStorage, "0", "6"), 0, (6,), (1,)), id="its size a word"),
        pytest.param(View(Storage(torch.FloatStorage, "1", 6), 0, (6,), (1,)), id="storage not there"),
        pytest.param(View(Storage(torch.FloatStorage, "../data.pkl", 6), 0, (6,), (1,)), id="key is a path"),
        pytest.param(View(Storage(torch.FloatStorage, "0\n", 6), 0, (6,), (1,)), id="key of two lines"),
        pytest.param(View(Storage(torch.FloatStorage, 0, 6), 0, (6,), (1,)), id="key is a number"),
        pytest.param(View(Storage("FloatStorage", "0", 6), 0, (6,), (1,)), id="type is a word"),
        pytest.param(View(Storage(torch.Size, "0", 6), 0, (6,), (1,)), id="type is another class"),
    ],
)
def test_a_view_that_lies_is_refused(tmp_path: Path, view: View) -> None:
    path = write_view(tmp_path / "a.pt", view)
    refusal(path, read_tensors)


def test_an_empty_storage_gives_no_large_tensor(tmp_path: Path) -> None:
    view = View(Storage(torch.FloatStorage, "0", 0), 0, (10**6, 10**6), (0, 0))
    refusal(write_view(tmp_path / "a.pt", view, b""), read_tensors)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"shape": (-1,)}, id="a negative size"),
        pytest.param({"strides": ()}, id="a stride short"),
        pytest.param({"strides": (-1,)}, id="a negative stride"),
        pytest.param({"dtype": "float32"}, id="dtype is a word"),
        pytest.param({"storage_elements": 2**60}, id="another storage size"),
        pytest.param({"shape": None}, id="no shape"),
    ],
)
def test_a_state_cannot_change_a_checked_tensor(tmp_path: Path, state: dict[str, object]) -> None:
    """Refused, or without effect."""
    pickled = dump({"t": View(SIX, 0, (6,), (1,))})
    build = pickle.dumps(state, protocol=2)[2:-1] + b"b"
    assert pickled.endswith(b"s.")
    path = write_archive(tmp_path / "a.pt", pickled[:-2] + build + b"s.", {"0": SIX_BYTES})
    with suppress(InputError):
        assert read_tensors(path)["t"].tolist() == [0, 1, 2, 3, 4, 5]


# --- archives --------------------------------------------------------------------------------------


def good_file(path: Path) -> Path:
    torch.save({"a": torch.arange(100.0), "b": torch.arange(7).half()}, path)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    read = read_tensors(good_file(tmp_path / "a.pt"))
    assert torch.equal(read["a"], torch.arange(100.0))
    assert read["b"].dtype == torch.float16


def legacy_file(path: Path) -> Path:
    """In the form of torch before 1.6: no zip."""
    tensors = {"a": torch.arange(100.0), "b": torch.arange(7).half(), "c": torch.arange(100.0).view(4, 25).T}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return path


def test_a_file_of_torch_before_1_6_is_read(tmp_path: Path) -> None:
    read = read_tensors(legacy_file(tmp_path / "a.pt"))
    assert torch.equal(read["a"], torch.arange(100.0))
    assert read["b"].tolist() == list(range(7))
    assert torch.equal(read["c"], torch.arange(100.0).view(4, 25).T)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95, -1])
def test_a_truncated_legacy_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = legacy_file(tmp_path / "a.pt")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert "damaged" in refusal(path, read_tensors)


@pytest.mark.parametrize("seed", range(4))
def test_any_changed_byte_of_a_legacy_file_reads_or_is_refused(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), legacy_file(tmp_path / "a.pt")
    good = path.read_bytes()
    for _ in range(250):
        data = bytearray(good)
        data[rng.randrange(len(data) // 2)] = rng.randrange(256)
        path.write_bytes(data)
        read_or_refuse(path)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("<html>404: not found</html>")


def write_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 4062133\n")


def write_garbage(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + random.Random(0).randbytes(500))


def write_images(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/1.jpg", b"")


def write_two_roots(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"}.")
        archive.writestr("b/data.pkl", b"}.")


def write_legacy(path: Path) -> None:
    torch.save({"model": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def write_torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 2, 2)).save(str(path))


def write_big_endian(path: Path) -> None:
    write_archive(path, b"}.", byteorder=b"big")


def write_compressed(path: Path) -> None:
    write_archive(path, dump({}) + b" " * 1000, compression=zipfile.ZIP_DEFLATED)


def write_encrypted(path: Path) -> None:
    """The flag of an encrypted member, in both of its headers."""
    data = bytearray(write_archive(path, dump({})).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def write_unreadable_name(path: Path) -> None:
    """A member's name that is said to be UTF-8, and is not."""
    data = bytearray(write_archive(path, dump({})).read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 9] |= 8
    data[data.index(b"archive", directory)] = 0xFF
    path.write_bytes(data)


def write_list(path: Path) -> None:
    torch.save([torch.zeros(2)], path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(Path.mkdir, "directory", id="a directory"),
        pytest.param(write_nothing, "0 bytes", id="empty"),
        pytest.param(write_text, "<html>", id="text"),
        pytest.param(write_pointer, "git lfs pull", id="a Git LFS pointer"),
        pytest.param(write_garbage, "damaged", id="a zip's first bytes, then garbage"),
        pytest.param(write_images, "no data.pkl", id="another zip"),
        pytest.param(write_two_roots, "data.pkl", id="two roots"),
        pytest.param(write_legacy, "no detection model of YOLOv5, YOLOv8", id="torch.save before 1.6"),
        pytest.param(write_torchscript, "TorchScript", id="TorchScript"),
        pytest.param(write_big_endian, "big-endian", id="big-endian"),
        pytest.param(write_compressed, "compressed", id="a compressed member"),
        pytest.param(write_encrypted, "damaged", id="an encrypted member"),
        pytest.param(write_unreadable_name, "damaged", id="a member's name that is no text"),
        pytest.param(write_list, "not a checkpoint of YOLOv5, YOLOv8", id="a list at its root"),
    ],
)
def test_another_file_is_refused_with_what_it_is(
    tmp_path: Path, write: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "weights.pt"
    write(path)
    assert words.lower() in refusal(path).lower()


def test_a_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dump({"t": View(SIX, 0, (6,), (1,))}))
        archive.writestr("archive/data/0", SIX_BYTES, zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path, read_tensors)


@pytest.mark.parametrize("kept", [5, 0.1, 0.25, 0.5, 0.75, 0.95, -22, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    """kept: a share of the file, its number of bytes, or (below 0) how many are missing."""
    path = good_file(tmp_path / "a.pt")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    message = refusal(path)
    assert "truncated or damaged" in message
    assert "again" in message


@pytest.mark.parametrize("member", ["data.pkl", "data/0"])
def test_a_flipped_bit_fails_the_checksum(tmp_path: Path, member: str) -> None:
    path = good_file(tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        stored = archive.read(f"a/{member}")
    data = bytearray(path.read_bytes())
    data[data.index(stored) + len(stored) // 2] ^= 1
    path.write_bytes(data)
    message = refusal(path, read_tensors)
    assert "CRC" in message
    assert "damaged" in message


def read_or_refuse(path: Path) -> None:
    """What damage may lead to: a file that still reads, or a refusal. Anything else is raised."""
    with suppress(InputError):
        read_tensors(path)


@pytest.mark.parametrize("seed", range(4))
def test_any_changed_byte_of_the_zip_reads_or_is_refused(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "a.pt"
    good = write_view(path, View(SIX, 0, (2, 3), (3, 1))).read_bytes()
    for _ in range(250):
        data = bytearray(good)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        read_or_refuse(path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("seed", range(4))
def test_any_changed_bytes_of_the_pickle_read_or_are_refused(tmp_path: Path, seed: int) -> None:
    """With the checksum made right, as one who means harm would."""
    rng, path = random.Random(seed), tmp_path / "a.pt"
    good = dump({"t": View(SIX, 0, (2, 3), (3, 1)), "more": [1, 2.0, "three", None]})
    for _ in range(250):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        write_archive(path, bytes(data), {"0": SIX_BYTES})
        read_or_refuse(path)
