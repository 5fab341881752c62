"""Image files: their sizes, their damage, their pixels, and the cache of the scan."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sparsity.base.errors import InputError
from sparsity.data import images
from sparsity.data.images import ImageHeader, read_image, scan_images

ORIENTATION = 274


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of cache files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache" / "sparsity"


def gradient(height: int = 30, width: int = 40) -> np.ndarray:
    """Smooth, so that JPEG keeps it; no two corners alike."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((y * 200 // height, x * 200 // width, (x + y) * 100 // (width + height)), 2).astype(
        np.uint8
    )


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    """A file's content, from RGB or grey."""
    image = gradient() if image is None else image
    return cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def scan(path: Path) -> ImageHeader:
    return scan_images([path])[path]


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".jpg", 12), (".jpeg", 12), (".png", 0), (".bmp", 0), (".tif", 0), (".tiff", 0), (".webp", 12)],
)
def test_formats(tmp_path, suffix, tolerance):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(encoded(suffix))
    assert scan(file) == ImageHeader((40, 30))
    pixels = read_image(file)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - gradient()).max() <= tolerance


def test_a_file_of_two_jpegs(tmp_path):
    file = tmp_path / "a.mpo"
    image = Image.fromarray(gradient())
    image.save(file, save_all=True, append_images=[image.rotate(180)], quality=95)
    assert scan(file) == ImageHeader((40, 30))
    assert np.abs(read_image(file).astype(int) - gradient()).max() <= 12


def test_a_dng_is_read_as_the_tiff_that_it_is(tmp_path):
    file = tmp_path / "a.dng"
    file.write_bytes(encoded(".tif"))
    assert scan(file) == ImageHeader((40, 30))
    np.testing.assert_array_equal(read_image(file), gradient())


def test_a_grey_pfm_has_three_channels(tmp_path):
    file = tmp_path / "a.pfm"
    grey = gradient()[..., 0]
    cv2.imwrite(str(file), grey.astype(np.float32))
    assert scan(file) == ImageHeader((40, 30))
    np.testing.assert_array_equal(read_image(file), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_size_and_pixels_agree_on_the_orientation(tmp_path, suffix, orientation):
    file = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(gradient()).save(file, exif=exif)
    pixels = read_image(file)
    assert scan(file) == ImageHeader((pixels.shape[1], pixels.shape[0]))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        pytest.param(1, lambda a: a, id="upright"),
        pytest.param(3, lambda a: a[::-1, ::-1], id="upside down"),
        pytest.param(6, lambda a: np.rot90(a, -1), id="to be turned clockwise"),
        pytest.param(8, lambda a: np.rot90(a), id="to be turned counterclockwise"),
    ],
)
def test_a_jpeg_is_turned_as_its_exif_says(tmp_path, orientation, turn):
    file = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(gradient()).save(file, exif=exif, quality=95)
    expected = turn(gradient())
    assert scan(file) == ImageHeader((expected.shape[1], expected.shape[0]))
    assert np.abs(read_image(file).astype(int) - expected).max() <= 12


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_exif_that_makes_no_sense(tmp_path):
    file = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(file, exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x09broken")
    assert scan(file).size == read_image(file).shape[1::-1] == (40, 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_any_depth_is_read_as_rgb(tmp_path, dtype, channels):
    file = tmp_path / "a.png"
    top = np.iinfo(dtype).max
    image = np.full((30, 40, channels), [top, 0, 0, top][:channels], dtype)
    cv2.imwrite(str(file), image)
    assert scan(file) == ImageHeader((40, 30))
    pixels = read_image(file)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (30, 40, 3))
    assert (pixels == ([255, 255, 255] if channels == 1 else [0, 0, 255])).all()


def test_a_grey_jpeg_is_read_as_rgb(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(".jpg", np.full((30, 40), 77, np.uint8)))
    assert scan(file) == ImageHeader((40, 30))
    assert (read_image(file) == np.full((30, 40, 3), 77)).all()


JPEG, PNG = encoded(".jpg", gradient(200, 300)), encoded(".png", gradient(200, 300))
NOISE = encoded(".png", np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param("a.jpg", JPEG[: len(JPEG) // 2], "truncated", id="half a JPEG"),
        pytest.param("a.jpg", JPEG[:-2], "truncated", id="a JPEG without its end"),
        pytest.param("a.png", PNG[: len(PNG) // 2], "truncated", id="half a PNG"),
        pytest.param("a.bmp", encoded(".bmp")[:-100], "truncated", id="a truncated BMP"),
        pytest.param("a.jpg", JPEG[:3], "is not an image", id="a JPEG's first bytes"),
        pytest.param("a.png", PNG[:20], "", id="a PNG's first bytes"),
        pytest.param("a.jpg", b"<html>404</html>", "is not an image", id="text named .jpg"),
        pytest.param("a.jpg", b"", "is not an image", id="zero bytes"),
        pytest.param("a.png", encoded(".png", gradient(9, 40)), "40 x 9 pixels; at least 10 x 10", id="tiny"),
        pytest.param(
            "a.png", NOISE[:200] + b"\0" * 50 + NOISE[250:], "", id="a PNG of noise with bytes changed"
        ),
        pytest.param("a.png", PNG[:1000] + b"\0" * 50 + PNG[1050:], "", id="a smooth PNG with bytes changed"),
    ],
)
def test_problems(tmp_path, name, content, problem):
    file = tmp_path / name
    file.write_bytes(content)
    header = scan(file)
    assert header.size == (0, 0)
    assert header.problem
    assert problem in header.problem
    assert "\n" not in header.problem


def test_a_missing_image(tmp_path):
    assert scan(tmp_path / "a.jpg") == ImageHeader((0, 0), "No such file or directory")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(".jpg") + b"\0" * 100, id="a JPEG and zeros"),
        pytest.param(encoded(".jpg") + b"trailing garbage\r\n", id="a JPEG and text"),
        pytest.param(encoded(".png", gradient(10, 10)), id="just large enough"),
        pytest.param(encoded(".png"), id="a PNG named .jpg"),
    ],
)
def test_what_is_no_problem(tmp_path, content):
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    header = scan(file)
    assert header == ImageHeader(read_image(file).shape[1::-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, r"a\.jpg: cannot be read \(No such file", id="vanished"),
        pytest.param(b"", r"a\.jpg: OpenCV cannot decode it", id="zero bytes"),
        pytest.param(b"text", r"a\.jpg: OpenCV cannot decode it", id="text"),
    ],
)
def test_read_what_is_no_image(tmp_path, content, message):
    file = tmp_path / "a.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(file)


def test_no_images():
    assert scan_images([]) == {}


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Three images and a file that is none."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded(".png", gradient(20, 20 + i)))
    (tmp_path / "x.png").write_bytes(b"text")
    return sorted(tmp_path.glob("*.png"))


EXPECTED = [(20, 20), (21, 20), (22, 20), (0, 0)]


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the files whose headers are read."""
    names = []
    read_header = images._read_header

    def watched(path):
        names.append(path.name)
        return read_header(path)

    monkeypatch.setattr(images, "_read_header", watched)
    return names


def sizes(paths: list[Path]) -> list[tuple[int, int]]:
    headers = scan_images(paths)
    assert list(headers) == paths
    return [header.size for header in headers.values()]


def test_the_cache_is_json_and_used_again(files, cache, opened):
    assert sizes(files) == EXPECTED
    assert sorted(opened) == ["0.png", "1.png", "2.png", "x.png"]
    first = scan_images(files)
    (file,) = cache.iterdir()
    assert file.suffix == ".json"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["images"][str(files[1])][2:] == [21, 20, ""]
    opened.clear()
    assert scan_images(files) == first
    assert opened == ["x.png"], "what had a problem is looked at again"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: os.utime(file, ns=(1, 1)), id="time"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes() + b"more"), id="size"),
    ],
)
def test_a_changed_file_is_read_again(files, opened, change):
    scan_images(files)
    opened.clear()
    change(files[1])
    assert sizes(files) == EXPECTED
    assert sorted(opened) == ["1.png", "x.png"]


def test_a_changed_image_is_noticed(files):
    scan_images(files)
    files[0].write_bytes(encoded(".png", gradient(50, 60)))
    files[3].write_bytes(encoded(".png", gradient(70, 80)))
    assert sizes(files) == [(60, 50), *EXPECTED[1:3], (80, 70)]
    assert sizes(files) == [(60, 50), *EXPECTED[1:3], (80, 70)]


def test_a_vanished_file_is_noticed_and_its_return_too(files):
    scan_images(files)
    content = files[0].read_bytes()
    files[0].unlink()
    assert scan_images(files)[files[0]].problem == "No such file or directory"
    files[0].write_bytes(content)
    assert sizes(files) == EXPECTED


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\x80\x04\x95", id="binary"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"3", id="a number"),
        pytest.param(b"{}", id="without version"),
        pytest.param(b'{"version": 999, "images": {}}', id="of another version"),
        pytest.param(b'{"version": 1}', id="without images"),
        pytest.param(b'{"version": 1, "images": []}', id="images as a list"),
        pytest.param(b'{"version": 1, "images": {"NAME": 3}}', id="an entry that is no list"),
        pytest.param(b'{"version": 1, "images": {"NAME": []}}', id="an empty entry"),
        pytest.param(b'{"version": 1, "images": {"NAME": [SIZE, TIME, "9", 9, ""]}}', id="text for a number"),
        pytest.param(b'{"version": 1, "images": {"NAME": [SIZE, TIME, 9]}}', id="a short entry"),
        pytest.param(b'{"version": 1, "images": {"NAME": [SIZE, TIME, 9, 9, null]}}', id="null for text"),
    ],
)
def test_a_cache_file_that_is_none_is_replaced(files, cache, content):
    scan_images(files)
    (file,) = cache.iterdir()
    whole = json.loads(file.read_bytes())
    status = files[0].stat()
    for word, value in (("NAME", files[0]), ("SIZE", status.st_size), ("TIME", status.st_mtime_ns)):
        content = content.replace(word.encode(), str(value).encode())
    file.write_bytes(content)
    assert sizes(files) == EXPECTED
    assert json.loads(file.read_bytes()) == whole


@pytest.mark.parametrize("place", ["user-cache", "user-cache/sparsity"])
def test_an_unwritable_cache_does_no_harm(files, tmp_path, place):
    blocked = tmp_path / place
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file", encoding="utf-8")
    assert sizes(files) == EXPECTED
    assert blocked.read_text(encoding="utf-8") == "a file"


def test_a_file_name_that_is_not_utf8(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        file.write_bytes(encoded(".png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert scan(file) == ImageHeader((40, 30))


def test_damage_inside_a_jpeg_that_ends_well_can_be_read(tmp_path):
    """Only the end marker of a JPEG is checked; what lies before it is decoded as well as may be."""
    file = tmp_path / "a.jpg"
    content = bytearray(JPEG)
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    file.write_bytes(content)
    assert scan(file) == ImageHeader((300, 200))
    assert read_image(file).shape == (200, 300, 3)


def test_a_decompression_bomb_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = tmp_path / "a.png"
    buffer = io.BytesIO()
    Image.fromarray(gradient()).save(buffer, "PNG")
    file.write_bytes(buffer.getvalue())
    assert "exceeds limit" in scan(file).problem


def test_an_image_beyond_the_limit_of_opencv_is_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 70_000, 70_000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"0")), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    with pytest.raises(InputError, match=r"a\.png: OpenCV cannot decode it \(pixels <= "):
        read_image(tmp_path / "a.png")
