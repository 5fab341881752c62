"""The demo's data set: drawn scenes, as images and labels in YOLOv5's form. It is made if it is missing."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

import cv2
import numpy as np

from sparsity.base.errors import InputError
from sparsity.base.files import cache_folder
from sparsity.base.progress import progress_bar, say
from sparsity.demo.drawing import CLASSES, Scene, draw_scene

VERSION = 1
"""Part of the name of the default folder. It must change whenever the scenes change."""
COUNTS = {"train": 2000, "val": 300}
FIRST_SEEDS = {"train": 0, "val": 1_000_000}
"""The seed of the first scene of each split; the seeds of the others follow it."""
NAME = "demo"
"""The name that stands for the demo's weights and data. A file of that name is given as ./demo."""
WEIGHTS = Path(__file__).parent / "yolov5n_demo.safetensors"
"""A yolov5n that was trained on the scenes by finetune.py; see results/yolov5n_demo_dense."""
IMGSZ = 320
_FOLDER = f"demo-v{VERSION}"
_YAML = "demo.yaml"
_QUALITY = 92


def ensure_demo_data(
    folder: Path | None = None, *, progress: bool = False, say: Callable[[str], None] = say
) -> Path:
    """Return the data yaml of the demo's data set. The data set is drawn (in seconds) if it is missing.

    folder: the folder of the data set; None for one in the user's cache folder, or in the folder of temporary
    files where that can't be written. The data set is written completely or not at all.
    say: called with a line that names the folder of temporary files.
    Raises InputError where the data set can't be written, or where the folder holds other files.
    """
    if folder is not None:
        return _ensure(folder, COUNTS, progress=progress)
    cache = cache_folder()
    if cache is None:
        return _ensure_temporary("there is no home folder", progress, say)
    try:
        return _ensure(cache / _FOLDER, COUNTS, progress=progress)
    except UnwritableError as error:
        return _ensure_temporary(str(error), progress, say)


def training_images(data: Path) -> Path:
    """Return the folder of the training images. data: the data yaml that ensure_demo_data returned."""
    return data.parent / "images" / "train"


def validation_images(data: Path) -> Path:
    """Return the folder of the validation images. data: the data yaml that ensure_demo_data returned."""
    return data.parent / "images" / "val"


class UnwritableError(InputError):
    """The demo data cannot be written to their folder."""


def _ensure_temporary(reason: str, progress: bool, say: Callable[[str], None]) -> Path:
    """Ensure the data set in a folder of temporary files that no other user can write."""
    folder = _private_folder() / _FOLDER
    data = _ensure(folder, COUNTS, progress=progress)
    say(f"{reason}; the demo data are in {folder} (set XDG_CACHE_HOME to choose another folder)")
    return data


def _private_folder() -> Path:
    """Return a folder of temporary files that belongs to the user. Later runs find the same again."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"sparsity-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == user and not status.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="sparsity-"))


def _ensure(folder: Path, counts: dict[str, int], *, progress: bool = False) -> Path:
    data = folder / _YAML
    try:
        if not data.is_file():
            _check_place(folder)
            _make(folder, counts, progress)
    except OSError as error:
        reason = error.strerror or error
        raise UnwritableError(f"{folder}: the demo data cannot be written ({reason})") from error
    return data


def _check_place(folder: Path) -> None:
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    # Another process may have put the data set in place just now.
    if not empty and not (folder / _YAML).is_file():
        raise InputError(
            f"{folder}: a new or empty folder is expected for the demo data, or one with {_YAML}"
        )


def _make(folder: Path, counts: dict[str, int], progress: bool) -> None:
    """Build the data set beside the folder, then rename it, unless another process was faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.part")
    try:
        _build(temporary, counts, progress)
        try:
            temporary.replace(folder)
        except OSError:
            if not (folder / _YAML).is_file():
                raise
    finally:
        rmtree(temporary, ignore_errors=True)


def _build(folder: Path, counts: dict[str, int], progress: bool) -> None:
    for split in counts:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    scenes = [(split, number) for split, count in counts.items() for number in range(count)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            made = pool.map(lambda scene: _write_scene(folder, *scene), scenes)
            for _ in progress_bar(
                made, total=len(scenes), desc="Drawing the demo's images", shown=progress, leave=False
            ):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    (folder / _YAML).write_text(_yaml(), encoding="utf-8")


def _yaml() -> str:
    """Return a data yaml without the key path: its folders are relative to the yaml."""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    return f"train: images/train\nval: images/val\nnames:\n{names}"


def _write_scene(folder: Path, split: str, number: int) -> None:
    scene = draw_scene(FIRST_SEEDS[split] + number)
    bgr = cv2.cvtColor(scene.pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    (folder / "images" / split / f"{number:06}.jpg").write_bytes(encoded.tobytes())
    (folder / "labels" / split / f"{number:06}.txt").write_text(_labels(scene), encoding="utf-8")


def _labels(scene: Scene) -> str:
    """Return the scene's labels, one line for each: class cx cy w h, normalised."""
    low, high = scene.boxes_xyxy[:, :2], scene.boxes_xyxy[:, 2:]
    boxes_cxcywh = np.concatenate(((low + high) / 2, high - low), 1) / len(scene.pixels)
    rows = zip(scene.classes.tolist(), boxes_cxcywh.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{value:.6f}' for value in box)}\n" for label, box in rows)
