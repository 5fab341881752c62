"""Image files: their sizes, whether they are complete, and their pixels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sparsity.base.errors import InputError
from sparsity.base.files import cache_folder, write_text
from sparsity.base.progress import progress_bar

SUFFIXES = frozenset({".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".pfm", ".png", ".tif", ".tiff", ".webp"})
"""The suffixes of image files that are read; YOLOv5 reads the same."""
OTHER_SUFFIXES = frozenset(
    {".arw", ".avif", ".cr2", ".dib", ".exr", ".gif", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jfif"}
    | {".jp2", ".jxl", ".nef", ".pbm", ".pgm", ".ppm", ".psd", ".svg", ".tga"}
)
"""Suffixes of image files that are not read. Such files are named in a warning."""
CACHE_VERSION = 1
SMALLEST = 10
_SCAN_THREADS = 8
_DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a damaged file."""


@dataclass(frozen=True)
class ImageHeader:
    """The (width, height) of an image in pixels, as displayed; problem: why it can't be used, or ''."""

    size: tuple[int, int] = (0, 0)
    problem: str = ""


def read_image(path: Path) -> np.ndarray:
    """Read an image as uint8 [height, width, 3], RGB, rotated as its EXIF data require.

    Raises InputError where it can't be read.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as error:
        # Such as an image of more than 2**30 pixels.
        raise InputError(f"{path}: OpenCV cannot decode it ({error.err or error})") from error
    if image is None:
        raise InputError(f"{path}: OpenCV cannot decode it; it is damaged, or no image")
    if image.ndim == 2:
        # OpenCV reads a grey PFM without channels, whatever is asked for.
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def read_complete_image(path: Path) -> np.ndarray:
    """Read an image as read_image does. Raises InputError where its file is cut off, too."""
    pixels = read_image(path)
    most = Image.MAX_IMAGE_PIXELS  # Pillow opens no larger ones.
    if most is None or pixels.shape[0] * pixels.shape[1] <= most:
        try:
            with Image.open(path) as image:
                _check_complete(path, image)
        except _DAMAGED as error:
            raise InputError(f"{path}: {_reason(error).removeprefix(f'{path}: ')}") from error
    return pixels


def scan_images(paths: Iterable[Path], *, progress: bool = False) -> dict[Path, ImageHeader]:
    """Read the size of each image, and find the damaged images.

    Results are cached as JSON in the user's cache folder. They are used again for files whose size and
    modification time are unchanged.
    """
    paths = list(paths)
    cache_file = _cache_file(paths)
    known = {} if cache_file is None else _read_cache(cache_file)
    with ThreadPoolExecutor(_SCAN_THREADS) as pool:
        scanned = list(
            progress_bar(
                pool.map(lambda path: _scan(path, known), paths),
                total=len(paths),
                desc="Scanning images",
                shown=progress,
                leave=False,
            )
        )
    # Problems are not cached: the cause may have been the disk or the permissions.
    entries = {str(path): entry for path, entry in zip(paths, scanned, strict=True) if not entry[4]}
    if entries != known and cache_file is not None:
        _write_cache(cache_file, entries)
    return {p: ImageHeader((e[2], e[3]), e[4]) for p, e in zip(paths, scanned, strict=True)}


Entry = tuple[int, int, int, int, str]
"""The cached entry of an image: file size, modification time in ns, width, height, problem."""


def _scan(path: Path, known: Mapping[str, Entry]) -> Entry:
    try:
        status = path.stat()
    except OSError as error:
        return (0, 0, 0, 0, error.strerror or "cannot be read")
    except ValueError as error:
        # A list file can hold a path with a zero byte.
        return (0, 0, 0, 0, str(error))
    before = known.get(str(path))
    if before is not None and before[:2] == (status.st_size, status.st_mtime_ns):
        return before
    try:
        size, problem = _read_header(path), ""
    except _DAMAGED as error:
        size, problem = (0, 0), _reason(error).removeprefix(f"{path}: ")
    return (status.st_size, status.st_mtime_ns, *size, problem)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _read_header(path: Path) -> tuple[int, int]:
    """Return the (width, height) of the pixels that OpenCV reads. Raises an error for a damaged file."""
    with Image.open(path) as image:
        _check_complete(path, image)
    height, width = read_image(path).shape[:2]
    if min(width, height) < SMALLEST:
        raise ValueError(f"{width} x {height} pixels; at least {SMALLEST} x {SMALLEST} are expected")
    return width, height


def _check_complete(path: Path, image: Image.Image) -> None:
    """Raise an error where the file of an image is cut off.

    OpenCV fills in the rest of a truncated file without an error. Pillow raises one, so the file is decoded
    by Pillow too, unless it is a JPEG that has its end marker.
    """
    if not _ends_as_jpeg(path):
        image.load()


def _ends_as_jpeg(path: Path) -> bool:
    """Whether the file is a JPEG that ends with the end marker."""
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return False
        file.seek(-2, os.SEEK_END)
        return file.read() == b"\xff\xd9"


def _cache_file(paths: list[Path]) -> Path | None:
    """Return the file of the cache; None for a user without a home folder."""
    key = sha256(b"\n".join(map(os.fsencode, paths))).hexdigest()[:16]
    folder = cache_folder()
    return None if folder is None else folder / f"images-{key}.json"


def _read_cache(path: Path) -> dict[str, Entry]:
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != CACHE_VERSION:
            return {}
        entries = {name: tuple(entry) for name, entry in content["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    types = (int, int, int, int, str)
    return {n: e for n, e in entries.items() if tuple(map(type, e)) == types}


def _write_cache(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the entries to the cache. Failure to write it is ignored."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"version": CACHE_VERSION, "images": entries}))
    except OSError:
        return
