"""The header of our .safetensors files: it describes the file, and is checked before it is used."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.formats.architecture import UnreadableError
from sparsity.formats.coding import FORMAT_NAME, CodingError, decompress

FORMAT, VERSION = "sparsity", 1
LENGTH_BYTES = 8
MOST_HEADER = 4 * 2**20
MOST_DESCRIPTION = 8 * 2**20
DESCRIPTION_LEVEL = 19


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie: their start, from the beginning of the file, and their size, in bytes."""

    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """The header of a file: the description that dump_header was given, and the places of the tensors.

    end: where the header ends and the tensors begin. file_size: in bytes.
    """

    description: dict[str, Any]
    places: dict[str, Place]
    end: int
    file_size: int


def dump_header(description: dict[str, Any]) -> dict[str, str]:
    """Return the metadata of a file with this description. Raises InputError if it is too long."""
    text = json.dumps(description, separators=(",", ":"), allow_nan=False).encode()
    zstandard = optional_module("zstandard", FORMAT_NAME)
    data = base64.b64encode(zstandard.ZstdCompressor(level=DESCRIPTION_LEVEL).compress(text)).decode()
    if len(text) > MOST_DESCRIPTION or len(data) > MOST_HEADER // 2:
        raise InputError(f"the network's names and modules take {len(text)} bytes of JSON; too many to write")
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "description": data,
        "crc32": _checksum(str(VERSION), data),
    }


def in_order(content: bytes) -> bytes:
    """Return a file's content with its metadata sorted by name: safetensors writes them in a random order."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    fields = json.loads(content[LENGTH_BYTES:end])
    fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join((content[:LENGTH_BYTES], text.ljust(end - LENGTH_BYTES), memoryview(content)[end:]))


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read a file's header. Raises InputError for another format, and UnreadableError if it is damaged."""
    file_size = path.stat().st_size
    first = file.read(LENGTH_BYTES)
    length = int.from_bytes(first, "little")
    if not first:
        raise InputError(f"{path}: empty (0 bytes); download or copy it again")
    if length > MOST_HEADER or len(first) < LENGTH_BYTES:
        raise InputError(
            f"{path}: not a safetensors file, or its header is damaged (a header length up to {MOST_HEADER} "
            f"is expected, but the file begins with {first!r})"
        )
    end = LENGTH_BYTES + length
    if end > file_size:
        raise UnreadableError(
            f"truncated: its header reaches to byte {end}, but the file ends at {file_size}"
        )
    fields = _parsed(file.read(length), "its header is damaged")
    description = _description(fields.pop("__metadata__", None))
    places = {name: _place(name, stored, end) for name, stored in fields.items()}
    return Header(description, places, end, file_size)


def _description(metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UnreadableError(
            f"a safetensors file, but not one of ours: its metadata do not name the format {FORMAT!r}"
        )
    version, data = metadata.get("version"), metadata.get("description")
    if not isinstance(version, str) or not isinstance(data, str):
        raise UnreadableError("its header is damaged: it has no version or no description")
    if metadata.get("crc32") != _checksum(version, data):
        raise UnreadableError("its header is damaged: its description changed since it was written")
    if version != str(VERSION):
        raise UnreadableError(
            f"has version {version[:20]} of the format; versions up to {VERSION} can be read: update sparsity"
        )
    return _parsed(_decompressed(data), "its description is damaged")


def _decompressed(data: str) -> bytes:
    zstandard = optional_module("zstandard", FORMAT_NAME)
    try:
        compressed = base64.b64decode(data, validate=True)
        size = zstandard.frame_content_size(compressed)
        if not 0 <= size <= MOST_DESCRIPTION:
            raise UnreadableError(
                f"its description is damaged: over {MOST_DESCRIPTION} bytes, or without a size"
            )
        return decompress(compressed, size)
    except (ValueError, CodingError, zstandard.ZstdError) as error:
        raise UnreadableError(f"its description is damaged ({error})") from None


def _parsed(text: bytes, problem: str) -> dict[str, Any]:
    """Return a JSON object. Raises UnreadableError, also for text that JSON readers interpret differently."""
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{problem} ({error})") from None
    if not isinstance(parsed, dict):
        raise UnreadableError(f"{problem} (not a JSON object)")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a name twice in one object")
    return parsed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} for a number")


def _place(name: str, stored: object, end: int) -> Place:
    """Return a tensor's place, from its entry in the header."""
    stored = stored if isinstance(stored, dict) else {}
    shape, offsets = stored.get("shape"), stored.get("data_offsets")
    numbers = (*shape, *offsets) if isinstance(shape, list) and isinstance(offsets, list) else ()
    sizes = [n for n in numbers if type(n) is int and 0 <= n < 2**48]
    if len(numbers) != 3 or len(sizes) != 3 or len(offsets) != 2 or stored.get("dtype") != "U8":
        raise UnreadableError(f"its header is damaged: {name[:200]} is not a row of bytes with a place")
    if offsets[1] - offsets[0] != shape[0]:
        raise UnreadableError(f"its header is damaged: {name[:200]} has a size that differs from its shape")
    return Place(end + offsets[0], shape[0])


def _checksum(version: str, description: str) -> str:
    """Return the value of crc32 in the metadata. It is defined in the same way in every version."""
    return str(zlib.crc32(f"{version} {description}".encode("utf-8", "replace")))
