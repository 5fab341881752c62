"""Our own .safetensors files: a network in about as few bytes as its zeros and weights need.

Every tensor of the file is a row of bytes made by sparsity/formats/coding.py. The header's metadata define
their meaning. The package safetensors writes the files. They are read without it, so that errors can name
what is damaged. docs/format.md defines the format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.files import write_bytes
from sparsity.base.optional import optional_module
from sparsity.formats import coding
from sparsity.formats.architecture import UnreadableError, as_data, read_architecture
from sparsity.formats.checkpoint import Checkpoint, build_network, checked_head
from sparsity.formats.coding import Coded, CodingError, Stream
from sparsity.formats.header import Header, Place, dump_header, in_order, read_header
from sparsity.formats.saved_form import SavedForm
from sparsity.pruning.layers import convolutions
from sparsity.yolo.current import current_architecture
from sparsity.yolo.network import Network
from sparsity.yolo.registry import HEADS
from sparsity.yolo.spec import Architecture

LEAST_LIMIT = 384 * 2**20
MOST_RATIO = 256
"""The limit of the weights' size in memory, in bytes.

It is LEAST_LIMIT, or MOST_RATIO times the size of the file if that is more.
"""
MOST_VALUES = 2**26
"""The maximum number of values in one tensor of the file. The largest layer of a YOLOv5 has 2**24."""
MOST_MODULES = 4_000
"""The largest published network, yolov5x6, has under 1,000."""
HALF_BITS = 16
FLOAT_BYTES = 4


@dataclass(frozen=True)
class _Entry:
    """A tensor of the file: the weights in it by name, one after the other, and their coding."""

    name: str
    members: dict[str, tuple[int, ...]]
    coded: Coded
    crc32: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the only weight in it, or of several weights in a row."""
        shapes = list(self.members.values())
        return shapes[0] if len(shapes) == 1 else (sum(math.prod(shape) for shape in shapes),)

    @property
    def size(self) -> int:
        """The number of bytes in the file."""
        return sum(stream.size for stream in self.coded.streams)

    def __str__(self) -> str:
        first = next(iter(self.members))
        return first if len(self.members) == 1 else f"{self.name} ({first} and {len(self.members) - 1} more)"


def write(network: Network, path: Path) -> None:
    """Write a network, completely or not at all. read_network returns the same weights, bit for bit.

    Tensors that float16 holds exactly are stored in float16, all others in float32. To get small files, round
    first (formats.half.round_to_half). Raises InputError if path cannot be written, and as encode does.
    """
    write_bytes(path, encode(network))


def encode(network: Network) -> bytes:
    """Return the content of the file that write makes.

    Raises InputError if a weight is not finite or has another type than float16, bfloat16, float32 or int64,
    if the network is too large for read_parts, or if a package is missing.
    """
    safetensors = optional_module("safetensors.numpy", coding.FORMAT_NAME)
    entries, tensors = [], {}
    for name, members, values, sparse in _rows(network):
        shape = next(iter(members.values())) if len(members) == 1 else values.shape
        coded, data = coding.encode(values, shape, sparse=sparse)
        entries.append(_Entry(name, members, coded, coding.crc32(data)))
        tensors[name] = np.frombuffer(data, np.uint8)
    description = {
        "names": list(network.names),
        "architecture": as_data(current_architecture(network)),
        "tensors": [_entry_as_data(entry) for entry in entries],
    }
    content = in_order(safetensors.save(tensors, dump_header(description)))
    try:
        _check_memory(entries, len(content))
    except UnreadableError as error:
        raise InputError(
            f"the network cannot be written, because it could not be read again: {error}"
        ) from None
    return content


def read_parts(path: Path) -> tuple[Architecture, dict[str, Tensor], tuple[str, ...]]:
    """Return the architecture, the weights by name (float32; counters int64), and the class names.

    They fit each other: yolo.network.build makes a network from them. Raises InputError if the file is
    missing, has another format or a newer version of this one, is damaged (the message names the layer), or
    has weights that do not fit its modules.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, path)
            architecture, names, entries = _described(header)
            _check_memory(entries, header.file_size)
            weights = {}
            for entry, place in zip(entries, _places(header, entries), strict=True):
                weights |= _weights(entry, _stored(file, entry, place))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (CodingError, UnreadableError) as error:
        raise InputError(f"{path}: {error}") from None
    return architecture, weights, names


def read_network(path: Path) -> Network:
    """Read a file that write made. Raises InputError if it is missing, damaged or not a detector."""
    checkpoint = Checkpoint(path, *read_parts(path))
    try:
        checked_head(checkpoint.architecture)
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    return build_network(checkpoint)


def entropy_bound_bytes(network: Network) -> int:
    """Return the size of a network whose zeros are at random places, with 16 bits for every other number.

    A Conv2d with n weights takes n * H(zeros / n) bits for the places of its zeros, where H is the binary
    entropy, and 16 bits for each weight that is not zero. Every other parameter and buffer takes 16 bits for
    each number.
    """
    bits, numbers = 0.0, sum(tensor.numel() for tensor in network.state_dict().values())
    for _, conv in convolutions(network):
        total, kept = conv.weight.numel(), int(conv.weight.count_nonzero())
        numbers -= total
        bits += HALF_BITS * kept
        for part in (kept, total - kept):
            bits -= part * math.log2(part / total) if part else 0
    return math.ceil((bits + HALF_BITS * numbers) / 8)


Row = tuple[str, dict[str, tuple[int, ...]], NDArray, bool]


def _rows(network: Network) -> Iterator[Row]:
    """Yield the content of each tensor of the file: name, weights in it, their values, whether it is sparse.

    The weights of each Conv2d are a tensor of their own. All other numbers are joined by type.
    """
    weights = {name: _as_array(tensor, name) for name, tensor in network.state_dict().items()}
    for name, _ in convolutions(network):
        array = weights.pop(f"{name}.weight")
        yield f"{name}.weight", {f"{name}.weight": array.shape}, array.reshape(-1), True
    for dtype in coding.DTYPES:
        some = {name: array for name, array in weights.items() if array.dtype.name == dtype}
        if some:
            shapes = {name: array.shape for name, array in some.items()}
            yield f"joined.{dtype}", shapes, np.concatenate([a.reshape(-1) for a in some.values()]), False


def _as_array(tensor: Tensor, name: str) -> NDArray:
    """Return a tensor's values: float16 if it holds each of them exactly, else float32; or int64."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.int64:
        return tensor.numpy()
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise InputError(f"{name}: is of type {tensor.dtype}; float16, float32 or int64 can be written")
    single = tensor.float()
    if not torch.isfinite(single).all():
        raise InputError(f"{name}: a weight is not finite; such a network cannot be written")
    half = single.half()
    exact = torch.equal(half.float().view(torch.int32), single.view(torch.int32))
    return (half if exact else single).numpy()


def _entry_as_data(entry: _Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "dtype": entry.coded.dtype,
        "mask": entry.coded.mask,
        "least": entry.coded.least,
        "streams": [[stream.size, stream.raw] for stream in entry.coded.streams],
        "crc32": entry.crc32,
        "members": [[name, list(shape)] for name, shape in entry.members.items()],
    }


def _described(header: Header) -> tuple[Architecture, tuple[str, ...], list[_Entry]]:
    """Return what the description contains, checked as far as possible without the weights."""
    description = header.description
    stored, names = description.get("tensors"), description.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError("has no list of class names")
    if not isinstance(stored, list):
        raise UnreadableError("has no list of tensors")
    architecture = _architecture(description.get("architecture"), len(names))
    entries = [_entry(one) for one in stored]
    _check_members(entries, _expected_shapes(architecture, names))
    return architecture, tuple(names), entries


def _architecture(stored: object, classes: int) -> Architecture:
    if _modules(stored) > MOST_MODULES:
        raise UnreadableError(f"has more than {MOST_MODULES} modules")
    architecture = read_architecture(stored)
    head = architecture[-1].module
    if head.kind not in HEADS:
        raise UnreadableError(f"its last layer is {head.kind}; Detect is expected")
    if head.attributes["nc"] != classes:
        raise UnreadableError(f"has {classes} class names, but its head has another number of classes")
    return architecture


def _modules(stored: object) -> int:
    """Return the number of objects with a kind, at any depth."""
    count, left = 0, [stored]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            count += "kind" in one
            left += one.values()
        elif isinstance(one, list):
            left += one
    return count


def _expected_shapes(architecture: Architecture, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of the architecture's modules, by name. Allocates no weights."""
    try:
        with torch.device("meta"):
            network = Network(architecture, names)
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    except Exception as error:
        # A module with invalid attributes can raise any exception.
        reason = " ".join(str(error).split())[:300]
        raise UnreadableError(f"its modules cannot be made: {reason}") from error


def _entry(stored: object) -> _Entry:
    stored = stored if isinstance(stored, dict) else {}
    name, dtype, mask = (stored.get(key) for key in ("name", "dtype", "mask"))
    if not all(isinstance(text, str) for text in (name, dtype, mask)):
        raise UnreadableError("has a tensor without a name, type or mask")
    numbers = [stored.get(key) for key in ("least", "crc32")]
    if not _are_sizes(numbers):
        raise UnreadableError(f"has no checksum or no least value for {name}")
    coded = Coded(dtype, mask, numbers[0], _streams(stored.get("streams"), name))
    entry = _Entry(name, _members(stored.get("members"), name), coded, numbers[1])
    if len(entry.members) > 1 and mask != "none":
        raise UnreadableError(f"has one mask for several weights in {name}")
    try:
        coding.check(coded, entry.shape)
    except CodingError as error:
        raise UnreadableError(f"{entry}: {error}") from None
    return entry


def _streams(stored: object, name: str) -> tuple[Stream, ...]:
    if not isinstance(stored, list) or not all(_are_sizes(pair) and len(pair) == 2 for pair in stored):
        raise UnreadableError(f"has no sizes of streams for {name}")
    return tuple(Stream(*pair) for pair in stored)


def _members(stored: object, name: str) -> dict[str, tuple[int, ...]]:
    if not isinstance(stored, list) or not stored or not all(_is_member(pair) for pair in stored):
        raise UnreadableError(f"has no weights and shapes for {name}")
    members = {member: tuple(shape) for member, shape in stored}
    if len(members) != len(stored):
        raise UnreadableError(f"has a weight twice in {name}")
    return members


def _is_member(pair: object) -> bool:
    named = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
    return named and _are_sizes(pair[1])


def _are_sizes(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**48 for n in numbers)


def _check_members(entries: list[_Entry], expected: Mapping[str, tuple[int, ...]]) -> None:
    found: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        for name, shape in entry.members.items():
            if name in found:
                raise UnreadableError(f"has {name} twice")
            if shape != expected.get(name, shape):
                raise UnreadableError(f"{name}: is of shape {shape}; its module has {expected[name]}")
            found[name] = shape
    for words, names in (
        ("no weights for", expected.keys() - found.keys()),
        ("weights without a module:", found.keys() - expected.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UnreadableError(f"its weights do not fit its modules: {words} {min(names)}{more}")
    if len({entry.name for entry in entries}) != len(entries):
        raise UnreadableError("has two tensors of the same name")


def _check_memory(entries: list[_Entry], file_size: int) -> None:
    """Raise UnreadableError if the weights take more memory than a file of this size can request."""
    counts = [math.prod(entry.shape) for entry in entries]
    sizes = [max(FLOAT_BYTES, coding.DTYPES[entry.coded.dtype].itemsize) for entry in entries]
    need = sum(count * size for count, size in zip(counts, sizes, strict=True))
    limit = max(LEAST_LIMIT, MOST_RATIO * file_size)
    if need > limit:
        raise UnreadableError(
            f"its weights take {need} bytes in memory; at most {limit} are accepted for a file of "
            f"{file_size} bytes"
        )
    for entry, count in zip(entries, counts, strict=True):
        if count > MOST_VALUES:
            raise UnreadableError(f"{entry}: has {count} values; at most {MOST_VALUES} are read")


def _places(header: Header, entries: list[_Entry]) -> list[Place]:
    """Return where each tensor lies. Raises UnreadableError if one is not completely in the file."""
    missing = [entry for entry in entries if entry.name not in header.places]
    if missing or len(header.places) != len(entries):
        raise UnreadableError(f"damaged: its header has other tensors than its description{_named(missing)}")
    places = [header.places[entry.name] for entry in entries]
    for entry, place in zip(entries, places, strict=True):
        if place.size != entry.size:
            raise UnreadableError(f"damaged: its header gives {entry} {place.size} bytes, not {entry.size}")
    by_place = sorted(zip(places, entries, strict=True), key=lambda pair: (pair[0].start, pair[0].size))
    end = header.end
    for place, entry in by_place:
        if place.start != end:
            raise UnreadableError(f"damaged: its header has {entry} at a wrong place")
        end = place.start + place.size
        if end > header.file_size:
            raise UnreadableError(
                f"truncated: {entry} reaches to byte {end}, but the file ends at {header.file_size}; "
                "download or copy it again"
            )
    if end != header.file_size:
        raise UnreadableError(f"damaged: it has {header.file_size - end} bytes after its last tensor")
    return places


def _named(entries: list[_Entry]) -> str:
    return f" (it lacks {entries[0]})" if entries else ""


def _stored(file: BinaryIO, entry: _Entry, place: Place) -> bytes:
    file.seek(place.start)
    data = file.read(place.size)
    if coding.crc32(data) != entry.crc32:
        raise UnreadableError(f"damaged: {entry}: its bytes changed since they were written; copy it again")
    return data


def _weights(entry: _Entry, data: bytes) -> dict[str, Tensor]:
    try:
        row = coding.decode(entry.coded, data, entry.shape)
    except CodingError as error:
        raise CodingError(f"{entry}: {error}") from None
    values = torch.from_numpy(row)
    values = values.float() if values.is_floating_point() else values
    sizes = [math.prod(shape) for shape in entry.members.values()]
    parts = values.split(sizes)
    if len(parts) > 1:
        parts = [part.clone() for part in parts]
    return {
        name: part.reshape(shape) for (name, shape), part in zip(entry.members.items(), parts, strict=True)
    }


FORM = SavedForm(read_network, write, packages=("zstandard",))
