"""Rows of numbers <-> bytes: a mask of the zeros, and byte planes of the other numbers, through zstandard.

docs/format.md defines the format byte by byte.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity.base.optional import optional_module

FORMAT_NAME = "the compressed format"
SEARCH = {
    "window_log": 20,
    "chain_log": 6,
    "hash_log": 6,
    "search_log": 1,
    "min_match": 7,
    "target_length": 0,
}
"""Settings of zstandard with almost no search for repeats.

The digits of weights do not repeat, and compression level 1 mistakes chance matches of four bytes for
repeats. With these settings, sizes are within 0.5% of those of compression level 19, or below
(docs/format.md).
"""
DTYPES = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "int64": np.dtype("<i8")}
LONGEST_GAP = 255
"""The byte that stands for 255 zeros and no value after them."""
LEAST_ZEROS_OF_GAPS = 0.7
"""Below this fraction of zeros, gaps are longer than bits. They are then neither tried nor read."""
_CHUNK = 1 << 20

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class CodingError(Exception):
    """The bytes cannot be the output of encode.

    The message says why. It follows the layer's name in an error.
    """


@dataclass(frozen=True)
class Stream:
    """A stream of bytes in a file: size is its length there, raw its length after decompression by zstandard.

    If both are equal, the stream is stored uncompressed.
    """

    size: int
    raw: int


@dataclass(frozen=True)
class Coded:
    """How a row of numbers is coded as bytes; decode needs it.

    dtype: a key of DTYPES. mask: a key of MASKS. streams: the mask's stream, unless mask is "none"; then one
    stream for each byte plane of the values, highest bytes first. least: the smallest magnitude of the
    floats, as the integer that its bits represent; 0 for integers.
    """

    dtype: str
    mask: str
    least: int
    streams: tuple[Stream, ...]


def encode(values: NDArray, shape: Sequence[int], *, sparse: bool) -> tuple[Coded, bytes]:
    """A flat array in one of DTYPES -> its coding and its bytes. decode returns the same bits.

    shape: the shape of the tensor that holds the values; some masks depend on it.
    sparse: leave out the zeros and store where they are, by the smallest mask. -0.0 does not count as zero.
    """
    numbers = values.view(f"<u{values.itemsize}")
    kept = numbers != 0
    mask, parts = "none", []
    if sparse and not kept.all():
        mask, part = _smallest_mask(kept, shape)
        parts, numbers = [part], numbers[kept]
    least = 0
    if values.dtype.kind == "f":
        numbers, least = _above_least(numbers)
    parts += [_compressed(plane) for plane in _planes(numbers)]
    streams = tuple(Stream(len(data), raw) for data, raw in parts)
    return Coded(values.dtype.name, mask, least, streams), b"".join(data for data, _ in parts)


def check(coded: Coded, shape: Sequence[int]) -> None:
    """Raise CodingError if no row of numbers of this shape can have this coding. Allocates no memory."""
    count, dtype = math.prod(shape), DTYPES.get(coded.dtype)
    if dtype is None or coded.mask not in MASKS:
        raise CodingError(f"has an unknown coding ({coded.dtype!r}, mask {coded.mask!r})")
    if coded.least and (dtype.kind != "f" or coded.least >> (8 * dtype.itemsize - 1)):
        raise CodingError(f"has {coded.least} as the least of {coded.dtype} numbers")
    if any(stream.size > stream.raw for stream in coded.streams):
        raise CodingError("has a stream that is longer than its decompressed content")
    masks = int(coded.mask != "none")
    if len(coded.streams) != masks + dtype.itemsize:
        raise CodingError(f"has {len(coded.streams)} streams; {masks + dtype.itemsize} are expected")
    kept = coded.streams[-1].raw
    if any(s.raw != kept for s in coded.streams[masks:]) or kept > count or (not masks and kept != count):
        raise CodingError(f"has byte planes whose lengths do not fit {count} values")
    if masks and not _mask_fits(coded.mask, coded.streams[0].raw, kept, count):
        raise CodingError(
            f"has a mask of {coded.streams[0].raw} bytes, too many or too few for {count} values"
        )


def decode(coded: Coded, data: bytes, shape: Sequence[int]) -> NDArray:
    """Bytes with a coding that check accepts -> the flat array. Raises CodingError."""
    dtype = DTYPES[coded.dtype]
    view, parts = memoryview(data), []
    for stream in coded.streams:
        parts.append((view[: stream.size], stream.raw))
        view = view[stream.size :]
    kept = None if coded.mask == "none" else MASKS[coded.mask].unpack(_raw(*parts.pop(0)), shape)
    count = parts[0][1]
    if kept is not None and np.count_nonzero(kept) != count:
        raise CodingError(f"has a mask that keeps {np.count_nonzero(kept)} values; {count} are stored")
    numbers = _joined([_raw(*part) for part in parts])
    if dtype.kind == "f":
        _add_least(numbers, coded.least)
    values = numbers.view(dtype)
    if kept is None:
        return values
    row = np.zeros(len(kept), dtype)
    row[kept] = values
    return row


@dataclass(frozen=True)
class _MaskCoding:
    """Converts the bool row of a tensor of some shape into bytes, and back."""

    pack: Callable[[Mask, Sequence[int]], Bytes]
    unpack: Callable[[Bytes, Sequence[int]], Mask]


def _pack_bits(kept: Mask, _shape: Sequence[int]) -> Bytes:
    return np.packbits(kept)


def _unpack_bits(packed: Bytes, shape: Sequence[int]) -> Mask:
    return np.unpackbits(packed, count=math.prod(shape)).view(bool)


def _pack_channels_last(kept: Mask, shape: Sequence[int]) -> Bytes:
    return np.packbits(np.moveaxis(kept.reshape(shape), 1, -1))


def _unpack_channels_last(packed: Bytes, shape: Sequence[int]) -> Mask:
    last = (shape[0], *shape[2:], shape[1])
    return np.moveaxis(_unpack_bits(packed, shape).reshape(last), -1, 1).reshape(-1)


def _pack_gaps(kept: Mask, _shape: Sequence[int]) -> Bytes:
    gaps = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    fills = gaps // LONGEST_GAP
    packed = np.full(len(gaps) + fills.sum(), LONGEST_GAP, np.uint8)
    packed[np.arange(len(gaps)) + np.cumsum(fills)] = gaps % LONGEST_GAP
    return packed


def _unpack_gaps(packed: Bytes, shape: Sequence[int]) -> Mask:
    ends = packed != LONGEST_GAP
    places = np.cumsum(packed + ends, dtype=np.int64)[ends] - 1
    kept = np.zeros(math.prod(shape), bool)
    if len(places) and places[-1] >= len(kept):
        raise CodingError(f"has a mask that reaches beyond its {len(kept)} values")
    kept[places] = True
    return kept


MASKS: dict[str, _MaskCoding | None] = {
    "none": None,
    "bits": _MaskCoding(_pack_bits, _unpack_bits),
    "bits channels last": _MaskCoding(_pack_channels_last, _unpack_channels_last),
    "gaps": _MaskCoding(_pack_gaps, _unpack_gaps),
}


def _smallest_mask(kept: Mask, shape: Sequence[int]) -> tuple[str, tuple[bytes, int]]:
    """Return the name of the smallest mask, its bytes as they are stored, and their uncompressed length."""
    names = ["bits"]
    if len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1:
        names.append("bits channels last")
    if np.count_nonzero(kept) <= (1 - LEAST_ZEROS_OF_GAPS) * len(kept):
        names.append("gaps")
    coded = {name: _compressed(MASKS[name].pack(kept, shape)) for name in names}
    best = min(names, key=lambda name: len(coded[name][0]))
    return best, coded[best]


def _mask_fits(mask: str, raw: int, kept: int, count: int) -> bool:
    if mask == "gaps":
        few = kept <= (1 - LEAST_ZEROS_OF_GAPS) * count
        return few and kept <= raw <= kept + (count - kept) // LONGEST_GAP
    return raw == (count + 7) // 8


def _above_least(numbers: NDArray) -> tuple[NDArray, int]:
    """Bits of floats -> twice the magnitude above the least one, plus the sign; and the least magnitude.

    The weights that pruning keeps lie above a threshold, so these numbers start at 0. The signs cannot be
    predicted. They affect only the lowest byte.
    """
    bits = 8 * numbers.itemsize - 1
    magnitudes = numbers & ((1 << bits) - 1)
    least = int(magnitudes.min(initial=(1 << bits) - 1))
    return ((magnitudes - least) << 1) | (numbers >> bits), least


def _add_least(numbers: NDArray, least: int) -> None:
    """Undo _above_least, in place."""
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        chunk[:] = ((chunk >> 1) + least) | (chunk << (8 * numbers.itemsize - 1))


def _planes(numbers: NDArray) -> list[Bytes]:
    """Unsigned numbers -> their byte planes, highest bytes first."""
    places = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, numbers.itemsize)
    return [np.ascontiguousarray(places[:, place]) for place in reversed(range(numbers.itemsize))]


def _joined(planes: list[Bytes]) -> NDArray:
    """Undo _planes. Empties the list of planes step by step, to save memory."""
    size = len(planes)
    places = np.empty((len(planes[0]), size), np.uint8)
    for place in range(size):
        places[:, place] = planes.pop()
    return places.reshape(-1).view(f"<u{size}")


def _compressed(raw: Bytes) -> tuple[bytes, int]:
    """Return the bytes compressed by zstandard, or unchanged if that is not longer, and their raw length."""
    plain = raw.tobytes()
    data = compress(plain)
    return (data if len(data) < len(plain) else plain), len(plain)


def _raw(data: memoryview, raw: int) -> Bytes:
    """Undo _compressed. Raises CodingError unless the result has exactly raw bytes."""
    if len(data) == raw:
        return np.frombuffer(data, np.uint8)
    plain = decompress(data, raw)
    return np.frombuffer(plain, np.uint8)


def compress(plain: bytes) -> bytes:
    """Return one zstandard frame, which records the length of plain."""
    zstandard = optional_module("zstandard", FORMAT_NAME)
    parameters = zstandard.ZstdCompressionParameters(strategy=zstandard.STRATEGY_FAST, **SEARCH)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)


def decompress(data: bytes | memoryview, raw: int) -> bytes:
    """Return the content of one zstandard frame. Raises CodingError unless it records and gives raw bytes."""
    zstandard = optional_module("zstandard", FORMAT_NAME)
    try:
        if zstandard.frame_content_size(data) != raw:
            raise CodingError(f"has a stream that does not give the expected {raw} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodingError(f"has a stream that zstandard cannot read ({error})") from None


def crc32(data: bytes) -> int:
    """Return the checksum of stored bytes."""
    return zlib.crc32(data)
