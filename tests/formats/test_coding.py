"""Rows of numbers come back bit for bit; bytes that can't be a row are refused."""

import math

import numpy as np
import pytest
import zstandard

from sparsity.formats import coding
from sparsity.formats.coding import Coded, CodingError, Stream, check, decode, encode


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def there_and_back(values: np.ndarray, shape: tuple[int, ...], sparse: bool = True) -> Coded:
    coded, data = encode(values.reshape(-1), shape, sparse=sparse)
    assert len(data) == sum(stream.size for stream in coded.streams)
    check(coded, shape)
    assert_same_bits(decode(coded, data, shape), values.reshape(-1))
    return coded


def pruned(shape: tuple[int, ...], zeros: float, dtype: str = "float16", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.02, shape)
    return np.where(rng.random(shape) < zeros, 0, values).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("zeros", [0, 0.01, 0.3, 0.6, 0.8, 0.9, 0.99, 1])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 3, 3), (64, 31, 1, 1), (5, 16, 6, 6), (2, 300, 5, 1)])
def test_rows_come_back(shape, zeros, dtype):
    there_and_back(pruned(shape, zeros, dtype), shape)
    there_and_back(pruned(shape, zeros, dtype), shape, sparse=False)


SPECIAL = {
    "-0.0 stays, and is no zero": [0.0, -0.0, 0.0, -0.0, 1.0],
    "only -0.0": [-0.0] * 5,
    "subnormals": [0.0, 6e-8, -6e-8, 5.96e-5, 0.0],
    "the largest": [65504.0, -65504.0, 0.0, 1.0, 0.0],
    "infinities": [np.inf, -np.inf, 0.0, 1.0, 0.0],
    "not a number": [np.nan, 0.0, 0.0, 1.0, 0.0],
    "all zero": [0.0] * 5,
    "all kept": [1.0, -2.0, 3.0, -4.0, 5.0],
    "one magnitude": [0.5, -0.5, 0.5, 0.0, 0.0],
    "one weight left, the last": [0.0, 0.0, 0.0, 0.0, 3.0],
    "one weight left, the first": [3.0, 0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("case", SPECIAL)
def test_special_values_come_back(case, dtype):
    there_and_back(np.array(SPECIAL[case], dtype), (5, 1, 1, 1))


def test_every_float16_comes_back():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    there_and_back(values, values.shape, sparse=False)
    there_and_back(values, (256, 256, 1, 1))


def test_whole_numbers_and_no_numbers_come_back():
    there_and_back(np.array([0, -1, 2**62, 7], np.int64), (4,), sparse=False)
    there_and_back(np.zeros(0, np.float16), (0,), sparse=False)


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 509, 510, 511, 5000])
def test_gaps_of_every_length_come_back(gap, monkeypatch):
    monkeypatch.setattr(coding, "_smallest_mask", lambda kept, shape: only("gaps", kept, shape))
    values = np.zeros(8000, np.float16)
    values[[100, 100 + gap + 1]] = 1
    assert there_and_back(values, (8000,)).mask == "gaps"


def only(name: str, kept: np.ndarray, shape: tuple[int, ...]) -> tuple[str, tuple[bytes, int]]:
    return name, coding._compressed(coding.MASKS[name].pack(kept, shape))


@pytest.mark.parametrize("name", ["bits", "bits channels last", "gaps"])
def test_every_mask_gives_the_same(name, monkeypatch):
    monkeypatch.setattr(coding, "_smallest_mask", lambda kept, shape: only(name, kept, shape))
    shape = (9, 13, 3, 3)
    assert there_and_back(pruned(shape, 0.95), shape).mask == name


def test_the_smallest_mask_is_taken():
    shape = (64, 64, 3, 3)
    assert there_and_back(pruned(shape, 0.5), shape).mask == "bits"
    assert there_and_back(pruned(shape, 0.93), shape).mask == "gaps"
    two_of_four = pruned(shape, 0).reshape(64, 16, 4, 3, 3)
    np.put_along_axis(two_of_four, np.abs(two_of_four).argsort(2)[:, :, :2], 0, 2)
    coded = there_and_back(two_of_four.reshape(shape), shape)
    assert coded.mask == "bits channels last"
    assert coded.streams[0].size < 0.7 * math.prod(shape) / 8


def test_what_zstandard_does_not_shrink_is_stored_as_it_is():
    noise = np.random.default_rng(0).integers(0, 2**16, 1000, np.uint16).view(np.float16)
    coded = there_and_back(noise, (1000,), sparse=False)
    assert coded.streams == (Stream(1000, 1000), Stream(1000, 1000))


FINE = Coded("float16", "bits", 5, (Stream(2, 2), Stream(3, 3), Stream(3, 3)))
BAD = {
    "type": (Coded("float8", "bits", 5, FINE.streams), "unknown coding"),
    "mask": (Coded("float16", "guess", 5, FINE.streams), "unknown coding"),
    "streams": (Coded("float16", "none", 5, FINE.streams), "3 streams; 2 are expected"),
    "planes": (Coded("float16", "bits", 5, (Stream(2, 2), Stream(3, 3), Stream(3, 4))), "byte planes whose"),
    "dense": (Coded("float16", "none", 5, (Stream(3, 3), Stream(3, 3))), "byte planes whose"),
    "too many": (Coded("float16", "bits", 5, (Stream(2, 2), Stream(11, 11), Stream(11, 11))), "byte planes"),
    "bits": (Coded("float16", "bits", 5, (Stream(3, 3), *FINE.streams[1:])), "a mask of 3 bytes"),
    "gaps": (Coded("float16", "gaps", 5, (Stream(2, 2), *FINE.streams[1:])), "a mask of 2 bytes"),
    "longer": (
        Coded("float16", "bits", 5, (Stream(3, 2), *FINE.streams[1:])),
        "longer than its decompressed",
    ),
    "least": (Coded("float16", "bits", 2**15, FINE.streams), "32768 as the least"),
    "least of none": (Coded("int64", "none", 1, (Stream(10, 10),) * 8), "1 as the least"),
}


@pytest.mark.parametrize("case", BAD)
def test_codings_that_fit_no_row_are_refused(case):
    coded, words = BAD[case]
    check(FINE, (10,))
    with pytest.raises(CodingError, match=words):
        check(coded, (10,))


def test_masks_that_say_other_than_the_planes_are_refused():
    with pytest.raises(CodingError, match="keeps 1 values; 3 are stored"):
        decode(FINE, b"\x80\x00" + bytes(6), (10,))
    gaps = Coded("float16", "gaps", 0, (Stream(1, 1), Stream(1, 1), Stream(1, 1)))
    with pytest.raises(CodingError, match="beyond its 10 values"):
        decode(gaps, b"\x0a\x00\x00", (10,))


def frames() -> dict[str, bytes]:
    fine = zstandard.ZstdCompressor().compress(bytes(1000))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    bomb = zstandard.ZstdCompressor().compress(bytes(10**8))
    return {"cut": fine[:-1], "two": fine + fine, "unsized": unsized, "bomb": bomb, "none": b"1234"}


@pytest.mark.parametrize("case", ["cut", "two", "unsized", "bomb", "none"])
def test_frames_that_give_other_bytes_are_refused(case):
    with pytest.raises(CodingError, match="a stream that"):
        coding.decompress(frames()[case], 1000)
