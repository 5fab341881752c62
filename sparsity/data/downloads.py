"""Downloads of published weights and of COCO. They are resumed, checked, and renamed when complete."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.base.progress import progress_bar
from sparsity.demo import data as demo

YOLOV5_URL = "https://github.com/ultralytics/yolov5/releases/download/v7.0"
YOLOV8_URL = "https://github.com/ultralytics/assets/releases/download/v8.1.0"
NEWER_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""YOLO11, YOLO12 and YOLO26."""
COCO_URL = "http://images.cocodataset.org"
FAMILIES = {
    "yolov5": YOLOV5_URL,
    "yolov8": YOLOV8_URL,
    **dict.fromkeys(("yolo11", "yolo12", "yolo26"), NEWER_URL),
}
"""Family of published checkpoints -> the address of the folder that has them."""
WEIGHTS = {f"{family}{size}.pt": url for family, url in FAMILIES.items() for size in "nsmlx"}
"""Published checkpoint -> the address of its folder."""
COCO_NAMES = ("coco", "coco.yaml")
COCO_FOLDER = Path("datasets/coco")
TIMEOUT_S = 30
_CHUNK = 1 << 20
_PUBLISHED = re.compile(r"(yolov?\d+)([nsmlxtbec]?)(6|u|6u)?(-\w+)?", re.IGNORECASE)
"""The names of published YOLO checkpoints, without suffix: family, size, variant, task."""


def ensure_weights(weights: str, *, progress: bool = False) -> Path:
    """Return the path of weights. A missing file in WEIGHTS is downloaded; "demo" stands for the demo's file.

    The environment variable SPARSITY_WEIGHTS_URL sets another base address. Raises InputError where the
    download fails, and for the name of a published checkpoint that is neither a file nor in WEIGHTS.
    """
    path = Path(weights)
    if weights == demo.NAME:
        return demo.WEIGHTS
    if path.exists() or path.name not in WEIGHTS:
        if path.name == weights and not path.exists():
            _refuse_published(weights)
        return path
    base = os.environ.get("SPARSITY_WEIGHTS_URL", WEIGHTS[path.name])
    _fetch(f"{base}/{path.name}", path, "SPARSITY_WEIGHTS_URL", progress)
    return path


def ensure_data(data: str, *, progress: bool = False) -> Path:
    """Return the path of data. "coco" and "coco.yaml" stand for COCO val2017, "demo" for the demo's data.

    A yaml or folder of that name is preferred to COCO. COCO's images and annotations are downloaded to
    datasets/coco where they are missing (about 1 GB). The environment variable SPARSITY_COCO_URL sets another
    base address. Raises InputError where the download fails.
    """
    path = Path(data)
    if data == demo.NAME:
        return demo.ensure_demo_data(progress=progress)
    if path.exists() or data not in COCO_NAMES:
        return path
    images = COCO_FOLDER / "images" / "val2017"
    if not images.is_dir():
        _fetch_zip("zips/val2017.zip", "val2017/", images, progress)
    annotations = COCO_FOLDER / "annotations" / "instances_val2017.json"
    if not annotations.is_file():
        archive = "annotations/annotations_trainval2017.zip"
        _fetch_zip(archive, "annotations/instances_val2017.json", annotations, progress)
    return COCO_FOLDER


def ensure_calibration(folder: str, *, progress: bool = False) -> Path:
    """Return the folder. "demo" stands for the demo's training images, which are drawn if missing."""
    if folder == demo.NAME:
        return demo.training_images(demo.ensure_demo_data(progress=progress))
    return Path(folder)


def _refuse_published(name: str) -> None:
    """Raise InputError for the name of a published checkpoint that can't be downloaded, or misspells one."""
    path = Path(name)
    found = _PUBLISHED.fullmatch(path.stem if path.suffix.lower() == ".pt" else name)
    if found is None:
        return
    plain = f"{path.stem if path.suffix else name}.pt".lower()
    spelt = (plain, plain.replace("yolov", "yolo"), plain.replace("yolo", "yolov"))
    near = next((one for one in spelt if one in WEIGHTS), "")
    if near:
        raise InputError(f"{name}: no such file; {near} can be downloaded")
    family, _, variant, task = found.groups()
    if task:
        reason = f"the task of {task} is not supported" if task.lower() in _TASKS else "it is another variant"
    elif variant:
        reason = _VARIANTS[variant.lower()]
    elif family.lower() in FAMILIES:
        reason = "there is no such size"
    else:
        reason = "it is of another family"
    *first, last = FAMILIES
    raise InputError(
        f"{name}: no such file, and it cannot be downloaded: {reason}. {', '.join(first)} and {last} in the "
        "sizes n, s, m, l and x can be downloaded, such as yolov5n.pt; give other checkpoints as files"
    )


_TASKS = ("-seg", "-cls", "-pose", "-obb", "-sem")
_VARIANTS = {
    "6": "it is a network for 1280 pixels",
    "u": "it is a YOLOv5u, which has the head of YOLOv8",
    "6u": "it is a YOLOv5u for 1280 pixels, which has the head of YOLOv8",
}


def _fetch_zip(archive: str, member: str, target: Path, progress: bool) -> None:
    """Download an archive of COCO, unpack one member or folder to target, and delete the archive."""
    local = COCO_FOLDER / Path(archive).name
    if not local.exists():
        base = os.environ.get("SPARSITY_COCO_URL", COCO_URL)
        _fetch(f"{base}/{archive}", local, "SPARSITY_COCO_URL", progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking", dir=target.parent) as folder:
            with zipfile.ZipFile(local) as zipped:
                names = [name for name in zipped.namelist() if name.startswith(member)]
                for name in progress_bar(names, desc=f"Unpacking {local.name}", shown=progress):
                    zipped.extract(name, folder)
            (Path(folder) / member).replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, FileNotFoundError) as error:
        raise InputError(f"{local}: damaged ({error}); delete it and start again") from error
    local.unlink()


def _fetch(url: str, target: Path, variable: str, progress: bool) -> None:
    """Download url to target.part, then rename it to target. A later call resumes from target.part."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, progress)
        part.replace(target)
    except (OSError, HTTPException) as error:
        # These include urllib's errors, time-outs and a broken connection.
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{target}: does not exist, and cannot be downloaded from {url} ({reason}). "
            f"Put the file at {target.absolute()}, or set {variable} to another base address"
        ) from error


def _download(url: str, part: Path, progress: bool) -> None:
    """Append the missing bytes to part. Raises OSError where it ends up shorter or longer than expected."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        part.unlink()
        return _download(url, part, progress)
    with response:
        have = have if response.status == 206 else 0
        total = _total_size(response, have)
        _append(response, part, have, total, progress)
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            part.unlink()
        raise OSError(f"got {size} of {total} bytes; start again to resume from there")
    return None


def _total_size(response: HTTPResponse, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else have + int(length)


def _append(response: HTTPResponse, part: Path, have: int, total: int | None, progress: bool) -> None:
    bar = progress_bar(
        total=total,
        initial=have,
        desc=f"Downloading {part.stem}",
        unit="B",
        unit_scale=True,
        shown=progress,
    )
    with bar, part.open("ab" if have else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
