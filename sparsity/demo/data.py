"""The demo's data set: drawn scenes as images and labels in YOLOv5's form, made where missing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

import cv2
import numpy as np

from sparsity.base.errors import InputError
from sparsity.base.files import cache_folder
from sparsity.base.progress import progress_bar
from sparsity.demo.drawing import CLASSES, Scene, draw_scene

VERSION = 1
"""Part of the default folder's name; it changes with whatever changes the scenes."""
COUNTS = {"train": 2000, "val": 300}
FIRST_SEEDS = {"train": 0, "val": 1_000_000}
"""Each split's scenes have the seeds from here on."""
NAME = "demo"
"""What --weights and --data call the demo's; a file of that name is ./demo."""
WEIGHTS = Path(__file__).parent / "yolov5n_demo.safetensors"
"""A yolov5n that finetune.py trained on the scenes; see results/yolov5n_demo_dense."""
IMGSZ = 320
_YAML = "demo.yaml"
_QUALITY = 92


def ensure_demo_data(folder: Path | None = None, *, progress: bool = False) -> Path:
    """Give the data yaml of the demo's data set, which is drawn (in seconds) where it is missing.

    folder: where it lies, as a whole or not at all; in the user's cache folder where None.
    Raises InputError where it can't be written, or where other files lie in the folder.
    """
    return _ensure(_default_folder() if folder is None else folder, COUNTS, progress=progress)


def training_images(data: Path) -> Path:
    """The folder of the training images that belong to a data yaml of ensure_demo_data."""
    return data.parent / "images" / "train"


def _default_folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise InputError("no home folder for the demo data; XDG_CACHE_HOME can name a place")
    return folder / f"demo-v{VERSION}"


def _ensure(folder: Path, counts: dict[str, int], *, progress: bool = False) -> Path:
    data = folder / _YAML
    try:
        if not data.is_file():
            _check_place(folder)
            _make(folder, counts, progress)
    except OSError as error:
        raise InputError(f"{folder}: the demo data cannot be written ({error.strerror or error})") from error
    return data


def _check_place(folder: Path) -> None:
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    # Another process may have put it in place only now.
    if not empty and not (folder / _YAML).is_file():
        raise InputError(
            f"{folder}: a new or empty folder is expected for the demo data, or one with {_YAML}"
        )


def _make(folder: Path, counts: dict[str, int], progress: bool) -> None:
    """Build the data set beside the folder, then put it in place unless another process was faster."""
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
    """A data yaml without the key path: its folders are seen from where it lies."""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    return f"train: images/train\nval: images/val\nnames:\n{names}"


def _write_scene(folder: Path, split: str, number: int) -> None:
    scene = draw_scene(FIRST_SEEDS[split] + number)
    bgr = cv2.cvtColor(scene.pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    (folder / "images" / split / f"{number:06}.jpg").write_bytes(encoded.tobytes())
    (folder / "labels" / split / f"{number:06}.txt").write_text(_labels(scene), encoding="utf-8")


def _labels(scene: Scene) -> str:
    """The scene's labels: class cx cy w h, normalised, a line each."""
    low, high = scene.boxes_xyxy[:, :2], scene.boxes_xyxy[:, 2:]
    boxes_cxcywh = np.concatenate(((low + high) / 2, high - low), 1) / len(scene.pixels)
    rows = zip(scene.classes.tolist(), boxes_cxcywh.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{value:.6f}' for value in box)}\n" for label, box in rows)
