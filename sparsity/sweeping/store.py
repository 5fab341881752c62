"""A sweep's folder. Finished work is written at once, so that a killed sweep can be resumed.

settings.json          the settings of the sweep; a sweep with other settings cannot use this folder
levels/LEVEL/          the files of a finished level, as a single validation writes them; its network if asked
levels/LEVEL/train/    the training of a fine-tuned level, with what resuming needs until it is finished
latency.json           the milliseconds of every run, by batch size, and what was timed
partial/LEVEL/*.npz    the detections in single batches, of levels that are not finished
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from sparsity.base.errors import InputError
from sparsity.base.files import delete_parts, replacing, write_json, writing_into
from sparsity.base.resumable import ResumableFolder
from sparsity.formats.sizes import SIZE_COLUMNS, Sizes
from sparsity.pruning.price_curves import PriceCurve, read_record
from sparsity.sweeping.level import Level
from sparsity.sweeping.stages import FINE_TUNED
from sparsity.validation.detector import PhaseSeconds
from sparsity.validation.metrics import Metrics
from sparsity.validation.nms import KeptBoxes
from sparsity.validation.passes import Found
from sparsity.validation.run_files import PREDICTIONS, read_layers

SETTINGS = "settings.json"
DEVICES = "devices"
"""The key of the names of what was timed, in latency.json."""
PRICES = "price_curves"
"""The key of the layers' price curves in what settings.json says about a sweep, with budget latency."""


@dataclass(frozen=True)
class Finished:
    """A finished level: its metrics, and the sizes of its files.

    seconds: the time that the level took, without pruning and training. prune_seconds, train_seconds: their
    times.
    """

    metrics: Metrics
    sizes: Sizes
    seconds: float
    prune_seconds: float = 0.0
    train_seconds: float = 0.0


class Store:
    """Reads and writes the folder of one sweep. Each file is complete or missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._partial = folder / "partial"
        self._place = _place(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other sweeps. Raises InputError where another sweep has locked it.

        The lock file is kept, because a process could be waiting for it. It is only deleted if no sweep was
        started in the folder.
        """
        lock = FileLock(self.folder / ".lock")
        with writing_into(self.folder):
            self._partial.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise InputError(
                    f"{self.folder}: another sweep is running in this folder; choose another one"
                ) from error
        try:
            delete_parts(self.folder)
            yield
        finally:
            # A process of the killed sweep may have lived on for a moment.
            delete_parts(self.folder)
            if not any(self._partial.glob("*/*")):
                shutil.rmtree(self._partial, ignore_errors=True)
            if not self._place.exists():
                (self.folder / ".lock").unlink(missing_ok=True)
            lock.release()

    def begin(self, settings: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
        """Start a sweep, or resume the sweep with the same settings. Return about, of its first start.

        about: how, when and where the sweep was started. Raises InputError where the folder holds a sweep
        with other settings; the error names each difference.
        """
        if self._place.exists():
            self._place.resume(settings)
            return read_settings(self.folder)["about"]
        if (self.folder / "levels").exists() or (self.folder / "latency.json").exists():
            raise InputError(
                f"{self.folder}: holds levels of a sweep, but not its settings ({SETTINGS}); "
                "choose another folder"
            )
        self._place.begin(settings, about=about)
        return about

    def level_folder(self, level: Level) -> Path:
        """Return the folder of a level's files, which is made if it is missing."""
        folder = self.folder / "levels" / level.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def matched_path(self, level: Level) -> Path:
        """Return the path of a level's matched detections, for resampling the images."""
        return self.folder / "levels" / level.key / "matched.npz"

    def finish(self, level: Level, done: Finished) -> None:
        """Write a level's metrics.json, which marks it as finished: its other files must exist already."""
        seconds = {"seconds": done.seconds, "prune_seconds": done.prune_seconds}
        if level.stage == FINE_TUNED:
            seconds["train_seconds"] = done.train_seconds
        row = {**asdict(done.metrics), **asdict(done.sizes), **seconds}
        with writing_into(self.folder):
            write_json(self.level_folder(level) / "metrics.json", row, indent=1)
        shutil.rmtree(self._partial / level.key, ignore_errors=True)

    def finished(self, level: Level) -> Finished | None:
        """Return a finished level; None where it is not finished, or a file of it is missing or damaged."""
        folder = self.folder / "levels" / level.key
        if not (folder / PREDICTIONS).is_file():
            return None
        try:
            read_layers(folder)
            row = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            # Fields that older sweeps lack have defaults.
            names = [field.name for field in fields(Metrics) if field.name in row]
            metrics = Metrics(**{name: row[name] for name in names})
            _check_numbers(metrics)
            sizes = Sizes(*(float(row[name]) for name in SIZE_COLUMNS))
            seconds = float(row["seconds"]), float(row["prune_seconds"])
            return Finished(metrics, sizes, *seconds, float(row.get("train_seconds", 0.0)))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_latency(self, batch_size: int, groups: Sequence[dict[str, list[float]]], device: str) -> None:
        """Add the milliseconds of a batch size: by the level's key, for each group that took turns.

        device: the name of what was timed.
        """
        with writing_into(self.folder):
            devices = {**self._devices(), str(batch_size): device}
            times = {**self._latencies(), str(batch_size): list(groups), DEVICES: devices}
            write_json(self.folder / "latency.json", times)

    def latency_device(self, batch_size: int) -> str:
        """Return the name of what was timed with a batch size; "" where it is not known."""
        return str(self._devices().get(str(batch_size), ""))

    def latency(self, batch_size: int, levels: Sequence[Level]) -> list[dict[str, list[float]]] | None:
        """Return the milliseconds of a batch size, as written; None where a level has none."""
        groups = self._latencies().get(str(batch_size))
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            return None
        beside = [(one, group) for one in levels for group in groups if group.get(one.dense.key)]
        timed = {one for one, group in beside if group.get(one.key)}
        return groups if timed >= set(levels) else None

    def _devices(self) -> dict[str, Any]:
        devices = self._latencies().get(DEVICES)
        return devices if isinstance(devices, dict) else {}

    def _latencies(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / "latency.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write_found(self, level: Level, batch: int, found: Found) -> None:
        """Write the detections of a level in a batch. They are kept until the level is finished."""
        path = self._found_path(level, batch)
        arrays = {
            "counts": np.array([len(one) for one in found.detections]),
            "boxes_xyxy": torch.cat([one.boxes_xyxy for one in found.detections]).numpy(),
            "scores": torch.cat([one.scores for one in found.detections]).numpy(),
            "classes": torch.cat([one.classes for one in found.detections]).numpy(),
            "seconds": np.array([getattr(found.seconds, f.name) for f in fields(PhaseSeconds)]),
        }
        with writing_into(self.folder):
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)

    def found(self, level: Level, batch: int) -> Found | None:
        """Return the detections of a level in a batch; None where they are missing or damaged."""
        try:
            with np.load(self._found_path(level, batch)) as file:
                boxes, scores, classes = (
                    torch.from_numpy(file[name]).split(file["counts"].tolist())
                    for name in ("boxes_xyxy", "scores", "classes")
                )
                *phases, images = file["seconds"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        detections = tuple(KeptBoxes(*one) for one in zip(boxes, scores, classes, strict=True))
        return Found(detections, PhaseSeconds(*phases, int(images)))

    def has_found(self, level: Level, batch: int) -> bool:
        """Whether the detections of a level in a batch are in the folder."""
        return self._found_path(level, batch).exists()

    def scratch(self, name: str) -> Path:
        """Return the path of a temporary file, which is deleted when the sweep is finished."""
        return self._partial / name

    def clear(self) -> None:
        """Delete what only an unfinished sweep needs."""
        with suppress(OSError):
            shutil.rmtree(self._partial)

    def _found_path(self, level: Level, batch: int) -> Path:
        return self._partial / level.key / f"{batch:06d}.npz"


def _check_numbers(metrics: Metrics) -> None:
    """Raise TypeError where a figure is not a number."""
    for field in fields(Metrics):
        value = getattr(metrics, field.name)
        if field.type in ("int", "float") and not isinstance(value, int | float):
            raise TypeError(f"{field.name} is {value!r}")


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings and about of the sweep in a folder. Raises InputError where there is no sweep."""
    made = _place(folder).read()
    try:
        about = dict(made["about"])
        about["environment"] = dict(about["environment"])
        return {"settings": made["settings"], "about": about}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: holds no sweep to go on with (no valid {SETTINGS})") from error


def read_prices(folder: Path) -> dict[str, PriceCurve] | None:
    """Return the price curves of the sweep in a folder; None where it has none. Raises as read_settings."""
    return read_record(read_settings(folder)["about"].get(PRICES))


def _place(folder: Path) -> ResumableFolder:
    return ResumableFolder(folder, SETTINGS, "sweep")
